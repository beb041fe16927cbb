"""What a node may run beside itself: a pool, or a solo search. Each brings a competitor that seals and reveals."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from chain.chain import Outcome
from chain.keys import PrivateKey, address_text
from consensus import records
from consensus.types import Payout
from ponas_node import pool_disclosure
from ponas_node.competitor import Competitor
from ponas_node.miner.executor import TRAIN_SECONDS, NoExecutor
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from ponas_node.miner.solo import SoloSearch
from ponas_node.pool_admin import PoolAdmin
from ponas_node.pool_api import PoolApi, members_json, terms_json
from ponas_node.state_files import StateFolder
from ponas_node.strategies import ChosenStrategy
from ponas_node.worker import Worker
from pool.audit import AuditPolicy
from pool.disputes import Replay
from pool.pool import Pool, PoolSettings
from pool.server import PoolServer
from pool.storage import NamespaceStorage
from pool.work import Candidate, Work

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_VALIDATION_SECONDS = 60.0
_LISTED = 100  # members that the summary lists; /v1/pool/members has all of them, page by page
_ALONE_SECONDS = 60.0  # without a pool, before a member with a node searches for itself
_EXECUTOR_SECONDS = 60.0  # before a search that found nothing to train on tries again
_LEAST_SILENCE, _MOST_SILENCE = 15.0, 60.0  # seconds without progress after which a lease goes to a backup miner


class PoolService:
    """The pool of a node: its members search, its key competes, its ledger follows the chain."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self._worker = Worker("pool-validator")
        self._replayer = Worker("pool-replayer", nice=node.config.nice)
        self._strategy = ChosenStrategy(node.config.strategy, node.artifacts.root, node.config.nice)
        consensus, options = node.genesis.consensus, node.config.pool_options
        window = consensus.commit_close * consensus.slot_milliseconds / 1000
        settings = PoolSettings(
            network=node.network,
            max_model_bytes=consensus.max_model_bytes,
            silence_seconds=max(_LEAST_SILENCE, min(_MOST_SILENCE, window / 4)),
            lease_size=options.lease_size,
            lease_seconds=options.lease_seconds,
            snapshot_entries=options.snapshot_entries,
            strategy=self._strategy.strategy,
            max_state_bytes=options.state_megabytes << 20,
            states_bytes=options.states_megabytes << 20,
            terms=options.terms(key.address),
            audits=AuditPolicy(best=max(AuditPolicy().best, consensus.seats)),  # its bonds answer for what it reveals
        )
        storage = NamespaceStorage(node.store.namespace(b"pool"))
        self.pool = Pool(storage, settings, random.Random(secrets.randbits(256)))
        self.server = PoolServer(
            self.pool,
            evaluate=self._evaluate,
            train=self._train,
            store_artifact=node.artifacts.put,
            clock=node.now,
            key=key,
            states=StateFolder(node.config.data / "pool-states"),
        )
        self.competitor = Competitor(node, key, self._candidates, self.pool.payouts_for)
        self.admin = PoolAdmin(self.pool, node.config.data / "pool.sock", node.now, consensus.payout_entries)
        self._tasks: list[asyncio.Task[None]] = []
        self._preview: tuple[int, tuple[Payout, ...]] = (-1, ())
        node.extra_routes.extend([*self.server.routes(), *PoolApi(self.pool, node.network, node.now).routes()])
        node.tip_listeners.append(self._follow)

    async def start(self) -> None:
        """Serve members and compete."""
        await self.server.start()
        await self.admin.start()
        self._tasks = [asyncio.create_task(_feed(self._node, self._set_work))]
        self._node.spawn(self.competitor.run())

    async def stop(self) -> None:
        """Stop serving."""
        await _cancel(self._tasks)
        await self.admin.stop()
        await self.server.stop()
        try:
            self.pool.save_snapshot()
        except Exception:  # a full disk must not keep the node from closing its database
            log.exception("the pool could not save a snapshot; the next start replays more of the ledger")
        await self._strategy.stop()
        await self._worker.stop()
        await self._replayer.stop()

    def summary(self) -> dict[str, Any]:
        """For /v1/pool."""
        head = self.server.head()
        return {
            **pool_disclosure.summary(self.pool, self._node.now()),
            "address": address_text(self._key.address),
            "public_key": self._key.public.hex(),
            "terms": terms_json(self.pool),
            "ledger": {"size": head.size, "root": head.root.hex(), "at": head.at / 1000, "head": head.encode().hex()},
            "rejected": dict(self.pool.rejected),
            "member_list": members_json(self.pool, b"", _LISTED),
            "next_table": [{"address": address_text(line.address), "weight": line.weight} for line in self._next()],
        }

    def member(self, address: bytes) -> dict[str, Any] | None:
        """For /v1/pool/members/{address}."""
        found = pool_disclosure.member(self.pool, address, self._node.now())
        if found is None:
            return None
        lines = self._next()
        place = next((i for i, line in enumerate(lines) if line.address == address), None)
        total = sum(line.weight for line in lines)
        next_line = None if place is None else {"place": place + 1, "weight": lines[place].weight, "total": total}
        return {**found, "address": address_text(address), "next_table": next_line}

    def _next(self) -> tuple[Payout, ...]:
        """What a table made now would carry, worked out once for every state of the ledger."""
        size = len(self.pool.ledger)
        if self._preview[0] != size:
            self._preview = size, self.pool.payouts(self._node.genesis.consensus.payout_entries)
        return self._preview[1]

    def _set_work(self, work: Work | None) -> None:
        self.server.set_work(work)
        self._strategy.set_work(work)

    def _candidates(self, work: Work, limit: int) -> list[Candidate]:
        return list(self.pool.candidates(limit)) if self.pool.work == work else []

    async def _evaluate(self, work: Work, models: list[tuple[bytes, bytes]]) -> list[int]:
        folder, device = str(self._node.artifacts.root), self._node.config.device
        seconds = _VALIDATION_SECONDS * len(models)
        answer = await self._worker.call("validate", work.spec.encode(), models, folder, device, timeout=seconds)
        return [int(correct) for correct in answer]

    async def _train(self, replay: Replay) -> tuple[bytes, ...]:
        folder, device = str(self._node.artifacts.root), self._node.config.device
        what = replay.work.spec.encode(), replay.genotype, replay.work.seed, replay.leaves
        answer = await self._replayer.call("replay", *what, folder, device, timeout=TRAIN_SECONDS)
        return tuple(answer)

    def _follow(self, outcome: Outcome) -> None:
        """Settle the ledger's rounds for epochs that are deep enough in the chain not to be undone."""
        state, parameters = self._node.chain.state, self._node.genesis
        chain = self._node.chain
        deep = chain.tip.slot - parameters.ledger.max_rollback
        for number in sorted(self.pool.book.open_rounds):
            epoch = records.epoch(state, number)
            if epoch is None or not epoch.settled:
                continue
            closes = records.closes(state, parameters.consensus, epoch)  # until then a seat may be lost
            if chain.height < closes or chain.canonical(max(closes, chain.base)).slot > deep:
                continue
            won = [records.result(state, id) for id in epoch.winners]
            own = [result for result in won if result is not None and result.owner == self._key.public]
            for result in own:
                self.pool.table_paid(result.id, number, result.payouts)
            if not own:
                self.pool.round_void(number)


class SoloService:
    """A search of the node's own; where the node has pools to mine for, only while none of them answers."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self.executor = LocalExecutor(node.config.slots, node.config.device, node.config.nice)
        self.member: PoolMember | None = None
        if node.config.pools:
            first, *others = node.config.pools
            self.member = PoolMember(
                first, key, node.config.data / "miner", self.executor,
                fallbacks=others, state_seconds=node.config.state_seconds,
            )  # fmt: skip
        self._strategy = ChosenStrategy(node.config.strategy, node.artifacts.root, node.config.nice)
        self.search = SoloSearch(
            self.executor,
            storage=NamespaceStorage(node.store.namespace(b"solo")),
            artifacts=node.artifacts.root,
            store_artifact=node.artifacts.put,
            finder=key.address,
            rng=random.Random(secrets.randbits(256)),
            strategy=self._strategy.strategy,
        )
        self.competitor = Competitor(node, key, self._candidates, self._payouts)
        self._work: Work | None = None  # what the search works on
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Search and compete."""
        self._tasks = [asyncio.create_task(self._search())]
        if self.member is not None:
            self._tasks.append(asyncio.create_task(_report(self.member.run())))
        self._node.spawn(self.competitor.run())

    async def stop(self) -> None:
        """Stop searching."""
        await _cancel(self._tasks)
        await self._strategy.stop()
        await self.executor.stop()

    def _candidates(self, work: Work, limit: int) -> list[Candidate]:
        return self.search.candidates(limit) if work == self._work else []

    def _payouts(self, candidate: Candidate, limit: int) -> tuple[Payout, ...]:
        return (Payout(self._key.address, 1),)

    async def _search(self) -> None:
        """Search while there is work, and no pool; begin anew where the work changes."""
        running: asyncio.Task[None] | None = None
        try:
            while True:
                work = self._node.work()
                wanted = self.member is None or self.member.state.alone_for() >= _ALONE_SECONDS
                if running is not None and running.done():
                    await _report(running)
                    await asyncio.sleep(_EXECUTOR_SECONDS)
                    running = None
                if running is not None and (work != self._work or not wanted):
                    await _cancel([running])
                    running = None
                if work != self._work:
                    self._work = None
                if wanted:
                    self._strategy.set_work(work)
                if work is not None and wanted and running is None:
                    self.search.prepare(work)
                    running, self._work = asyncio.create_task(self.search.run(work)), work
                await asyncio.sleep(0.5)
        finally:
            if running is not None:
                await _cancel([running])


async def _report(mining: Awaitable[None]) -> None:
    """Wait for the end of what runs until it is cancelled, and say why where it cannot train."""
    try:
        await mining
    except NoExecutor as error:
        log.error("%s", error)


async def _feed(node: Node, set_work: Callable[[Work | None], None]) -> None:
    """Tell the pool what to work on, twice a slot."""
    while True:
        set_work(node.work())
        await asyncio.sleep(node.genesis.consensus.slot_milliseconds / 2000)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("a service failed", exc_info=outcome)
