"""The node: puts chain, rules, mempool, oracle, peers and API together, and passes what arrives to where it belongs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from aiohttp import web

from chain.chain import Chain, Outcome, Status
from chain.checkpoints import Checkpoints
from chain.errors import Ignore, Invalid, Missing, TooDeep
from chain.failures import StoreError
from chain.keys import PrivateKey
from chain.mempool import Mempool
from chain.rules import BlockContext
from chain.store import Store
from chain.types import Block, Header, Transaction
from consensus import records
from consensus.datasets import HEADER
from consensus.facts import DatasetFact, facts_of
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.api import create_app
from ponas_node.artifacts import ArtifactStore
from ponas_node.branches import Branches
from ponas_node.clock import EARLY, ClockStatus, EarlyBlocks, compare
from ponas_node.config import NodeConfig
from ponas_node.datasets import provide_built_in
from ponas_node.keyfile import load_or_create_key
from ponas_node.minter import Minter
from ponas_node.oracle import FOR_BLOCK, FOR_MEMPOOL, Oracle
from ponas_node.p2p.network import Network, NetworkSettings
from ponas_node.prover import Prover
from ponas_node.worker import WorkerDied, WorkerError
from pool.work import Work, validation_samples

log = logging.getLogger(__name__)
_ROUNDS = 64  # times that facts are established for one item before it is given up


class Node:
    """One full node. `start` opens the data directory and the ports; `stop` closes both."""

    def __init__(
        self,
        config: NodeConfig,
        genesis: Genesis,
        key: PrivateKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.genesis = genesis
        self.network = genesis.network
        self.key = key  # mints and competes with this one
        self.now = clock
        limits = genesis.consensus
        self.max_artifact_bytes = max(limits.max_model_bytes, limits.max_dataset_bytes, limits.max_state_bytes)
        config.data.mkdir(parents=True, exist_ok=True)
        self.node_key = load_or_create_key(config.data / "node.key")
        self.store = Store(config.data / "db", self.network)
        self.artifacts = ArtifactStore(config.data / "artifacts")
        self.oracle = Oracle(self.store.facts, self.artifacts, self._fetch, config.device)
        self.rules = ConsensusRules(genesis, self.oracle)
        try:
            self.chain = Chain(self.store, self.rules, checkpoints=Checkpoints(config.checkpoints))
        except BaseException:
            self.store.close()
            raise
        self.branches = Branches(self)
        self.mempool = Mempool(self.rules)
        self.chain.verified = self.mempool  # which takes nothing whose signature it has not verified
        self.p2p = Network(
            self,
            NetworkSettings(
                listen_host=config.p2p_host,
                listen_port=config.p2p_port,
                peers=config.peers,
                advertise=config.advertise,
            ),
        )
        self.prover = Prover(self, config.prover_delay)
        self.minter = Minter(self, key) if key is not None else None
        self.services: list[Any] = []  # pool, solo search, auditor and witness, added before start
        self.tip_listeners: list[Callable[[Outcome], None]] = []
        self.early = EarlyBlocks()
        self.header_listeners: list[Callable[[Header], None]] = []  # of every block whose signatures are right
        self.reorgs = 0
        self.api_port = config.api_port
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = asyncio.Event()  # a part of the node failed for good: whoever runs the node stops it
        self.store.guard.on_failure = self._on_database_failure
        self._runner: web.AppRunner | None = None
        self.extra_routes: list[web.RouteDef] = []  # of services, on the API's port; before start

    # ---- life

    async def start(self) -> None:
        """Open the ports and start every part. Raises PortInUse."""
        provide_built_in(self.genesis, self.artifacts)
        await self.p2p.start()
        await self._start_api()
        self.spawn(self._warm_up())
        self.spawn(self._watch_clock())
        if self.config.prover_delay >= 0:
            self.spawn(self.prover.run())
        if self.minter is not None:
            self.spawn(self.minter.run())
        for service in self.services:
            await service.start()
        log.info(
            "%s: height %d, p2p port %d, API port %d",
            self.config.label,
            self.chain.height,
            self.p2p.port,
            self.api_port,
        )

    async def stop(self) -> None:
        """Stop every part and close the database."""
        for service in reversed(self.services):
            await service.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self.p2p.stop()
        await self.prover.stop()
        await self.oracle.stop()
        self.store.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a part of the node: where it fails, the node stops."""
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            expected = isinstance(error, WorkerError | WorkerDied)  # says all there is to say
            log.critical("%s: the node stops: %s", self.config.label, error, exc_info=not expected)
            self.failed.set()

    def _on_database_failure(self, error: StoreError) -> None:
        """Whatever part of the node ran into it: a node without its database must not go on."""
        log.critical("%s: the node stops: %s", self.config.label, error)
        self.failed.set()

    async def _warm_up(self) -> None:
        """Test the device before it is needed, and fetch the datasets of the genesis that could not be built here."""
        device = await self.oracle.warm_up()
        log.info("%s: evaluates on %s", self.config.label, device)
        for task in self.genesis.tasks:
            try:
                await self.oracle.establish(DatasetFact(task.spec, ()), FOR_MEMPOOL)
            except Invalid as error:
                log.warning("%s: the dataset of task %r is not here yet: %s", self.config.label, task.spec.name, error)

    async def _watch_clock(self) -> None:
        """With every slot: judge the blocks that waited for it, and say where the clock is off."""
        parameters, warned = self.genesis.consensus, False
        while True:
            await asyncio.sleep(max(0.01, parameters.time_of(self.slot() + 1) - self.now()))
            await self.take_due()
            warning = self.clock_status().warning
            if warning is not None and not warned:
                log.warning("%s: %s", self.config.label, warning)
            elif warning is None and warned:
                log.info("%s: the clock agrees with the peers' again", self.config.label)
            warned = warning is not None

    async def take_due(self) -> None:
        """Judge the blocks whose slot has begun meanwhile."""
        for block, peer in self.early.due(self.slot()):
            try:
                await self.receive_block(block, peer)
            except Invalid as error:  # where its parent is missing, catching up brings both
                log.debug("block %s that had waited was dropped: %s", block.id.hex()[:16], error)

    async def _start_api(self) -> None:
        app = create_app(self)
        app.add_routes(self.extra_routes)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.api_host, self.config.api_port)
        await site.start()
        self.api_port = self._runner.addresses[0][1]

    # ---- what others ask

    def slot(self) -> int:
        """Slot of the wall clock."""
        return self.genesis.consensus.slot_at(self.now())

    def work(self) -> Work | None:
        """What miners should train for now; None from commit close to settlement, or while the dataset is not here."""
        parameters, state = self.genesis.consensus, self.chain.state
        epoch = records.current_epoch(state)
        closes = parameters.time_of(parameters.start(epoch.number) + parameters.commit_close)
        task = records.task(state, epoch.task)
        if epoch.boundary or self.now() >= closes or task is None:
            return None
        dataset = self.artifacts.head(task.spec.dataset, HEADER.size)
        if dataset is None:
            return None
        return Work(epoch.number, epoch.task, task.spec, epoch.seed, closes, validation_samples(dataset))

    def pending_transaction(self, id: bytes) -> Transaction | None:
        """A transaction of the mempool."""
        return self.mempool.get(id)

    def pending_ids(self) -> list[bytes]:
        """Ids of all transactions of the mempool."""
        return [transaction.id for transaction in self.mempool.transactions()]

    def next_nonce(self, address: bytes) -> int:
        """The nonce that the next transaction of `address` needs, counting those that wait."""
        return self.mempool.next_nonce(self.chain.state, address)

    def peers(self) -> list[dict[str, Any]]:
        """The connected peers."""
        return [asdict(peer) for peer in self.p2p.peers()]

    def sync_status(self) -> dict[str, Any]:
        """How far catching up has come."""
        return asdict(self.p2p.sync_status())

    def clock_status(self) -> ClockStatus:
        """How this node's clock stands to its peers'."""
        return compare(self.p2p.clocks_ahead(), self.genesis.consensus.slot_milliseconds / 1000)

    def refusals(self) -> list[dict[str, Any]]:
        """The last peers that were refused, with reasons."""
        return [asdict(refusal) for refusal in self.p2p.refusals]

    def pool_summary(self) -> dict[str, Any] | None:
        """The pool of this node, if it has one."""
        return next((service.summary() for service in self.services if hasattr(service, "summary")), None)

    def pool_member(self, address: bytes) -> dict[str, Any] | None:
        """A member of this node's pool."""
        return next((service.member(address) for service in self.services if hasattr(service, "member")), None)

    def counters(self) -> dict[str, float]:
        """Metrics beyond the chain's own."""
        return {
            "reorgs": self.reorgs,
            "deep_reorgs_refused": self.branches.refused,
            "branches_adopted": self.branches.adopted,
            "results_evaluated": self.oracle.evaluated,
            "evaluation_seconds": self.oracle.seconds,
            "segments_replayed": self.oracle.replayed,
            "beacons_proven": self.prover.proven,
            "blocks_minted": self.minter.minted if self.minter is not None else 0,
            **self._service_counters(),
        }

    def _service_counters(self) -> dict[str, float]:
        found = [service.counters() for service in self.services if hasattr(service, "counters")]
        return {name: value for counters in found for name, value in counters.items()}

    # ---- what arrives

    async def submit_transaction(self, transaction: Transaction) -> None:
        """Take a transaction of this node's own or from its API; raises Invalid."""
        await self.receive_transaction(transaction, None)

    async def receive_transaction(self, transaction: Transaction, peer: bytes | None) -> None:
        """Check a transaction, put it into the mempool and announce it; raises Invalid."""
        for _ in range(_ROUNDS):
            try:
                self.mempool.add(transaction, self.chain.state, self._next_context())
            except Missing as error:
                await self.establish(error, FOR_MEMPOOL, peer)
            else:
                self.p2p.announce_transaction(transaction.id)
                return
        raise Ignore("the facts that the transaction needs keep changing", "unsettled")

    async def submit_block(self, block: Block) -> Outcome:
        """Take a block that was minted here; raises Invalid."""
        return await self.receive_block(block, None)

    async def receive_block(self, block: Block, peer: bytes | None) -> Outcome:
        """Check a block and follow it where it makes a longer chain; raises Invalid."""
        joining = self.branches.is_joining()  # by the tip before this block
        if block.header.slot > self.slot() + EARLY:
            self.early.put(block, peer, self.slot())
            raise Ignore(f"slot {block.header.slot} has not begun yet", "early")
        for _ in range(_ROUNDS):
            try:
                async with self.branches.lock:
                    outcome = self.chain.add_block(block)
            except Missing as error:
                await self.establish(error, FOR_BLOCK, peer)
            except TooDeep as error:
                if not joining:
                    self.branches.report(f"refused block {block.id.hex()[:16]}: {error}")
                raise
            else:
                self.after(outcome, block)
                return outcome
        raise Ignore("the facts that the block needs keep changing", "unsettled")

    async def establish(self, missing: Missing, priority: int, peer: bytes | None) -> None:
        """Learn the facts that something needs; raises Unavailable. `peer` should have the artifacts."""
        work = [self.oracle.establish(fact, priority, peer) for fact in facts_of(missing)]
        for done in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done

    async def _establish_quietly(self, facts: tuple[object, ...]) -> None:
        """For waiting transactions whose facts a reorganisation changed; they count again at the next tip."""
        with contextlib.suppress(Invalid):
            await self.establish(Missing(facts), FOR_MEMPOOL, None)

    def after(self, outcome: Outcome, block: Block | None) -> None:
        """Tell every part of a new tip, and the peers of the block that it is, if it is one."""
        for each in outcome.connected or (() if block is None else (block,)):
            for seen in self.header_listeners:
                seen(each.header)
        if outcome.status not in (Status.EXTENDED, Status.REORG):
            return
        if outcome.status is Status.REORG:
            self.reorgs += 1
            log.info("%s: reorganisation of %d blocks", self.config.label, len(outcome.disconnected))
        self.mempool.on_tip(outcome, self.chain.state, self._next_context())
        wanted = self.mempool.wanted()
        if wanted:
            self.spawn(self._establish_quietly(tuple(wanted)))
        if block is not None:
            self.p2p.announce_block(block.id)
        for listener in self.tip_listeners:
            listener(outcome)

    def _next_context(self) -> BlockContext:
        tip = self.chain.tip
        slot = max(tip.slot + 1, self.slot())
        return BlockContext(tip.height + 1, slot, tip.id, self.rules.leader(self.chain.state, tip, slot))

    async def _fetch(self, id: bytes, size: int, hint: bytes | None) -> bool:
        return await self.p2p.fetch_artifact(id, size, hint)
