"""A member of a pool: leases architectures, trains them, sends shares, and survives the loss of pool or process."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from chain.encoding import Record
from chain.keys import PrivateKey, address_text
from consensus.spaces import UnknownSpace, get_space
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.answers import Answers
from ponas_node.miner.choice import PoolChoice
from ponas_node.miner.courier import Courier
from ponas_node.miner.delivery import ANSWER_SECONDS, RETRY_SECONDS, Delivery
from ponas_node.miner.executor import STATE_SECONDS, Executor, Trained, TrainingFailed
from ponas_node.miner.folder import lock, worker_name
from ponas_node.miner.link import LinkError, PoolLink, fetch_artifact
from ponas_node.miner.receipts import Receipts
from ponas_node.miner.state import MinerState
from pool.heads import SignedHead
from pool.messages import (
    Announce,
    LeaseDenied,
    LeaseGrant,
    LeaseLost,
    LeaseRequest,
    Problem,
    Progress,
    Release,
    ShareAccepted,
    ShareRejected,
    ShareUpload,
    Standing,
    StandingRequest,
)
from pool.records import Share, sign_share
from pool.state_messages import StateDenied, StateGrant, StateRejected, StateTaken
from pool.work import Work

RETURN_SECONDS = 60.0
"""How often a miner that is with another pool looks whether the first one answers again."""
STANDING_SECONDS = 10.0


class PoolMember:
    """See the module. `data` holds what must survive: the dataset, this machine's name, unacknowledged shares.

    Where the pool at `url` does not answer, those in `fallbacks` have their turn, until the first is back. A training
    that lasts longer keeps its state with the pool every `state_seconds`; None: never.
    """

    def __init__(
        self,
        url: str,
        key: PrivateKey,
        data: Path,
        executor: Executor,
        state: MinerState | None = None,
        backoff: tuple[float, float] = (1.0, 60.0),
        fallbacks: Sequence[str] = (),
        state_seconds: float | None = STATE_SECONDS,
    ) -> None:
        """Raises DataInUse where another miner runs in `data`."""
        self._lock = lock(data)
        self.state = state or MinerState()
        self._choice = PoolChoice([url, *fallbacks])
        self._key, self._executor = key, executor
        self._worker = worker_name(data)
        self._artifacts = ArtifactStore(data / "artifacts")
        self._delivery = Delivery(data / "outbox", self.state, self._acknowledged)
        self._courier = Courier(key, self.state.say, state_seconds)
        self._promises = data / "receipts"
        self._receipts: Receipts | None = None
        self._backoff = backoff
        self._link: PoolLink | None = None
        self._next: PoolLink | None = None  # to the first pool, when it is back
        self._pool = b""  # address of the pool that is, or was last, connected
        self._work: Work | None = None
        self._changed = asyncio.Event()  # replaced at every change of work or pool
        self._leases = Answers[int]()  # by slot
        self._lost: set[int] = set()
        self._steps: dict[int, Progress] = {}
        self._fetching = asyncio.Lock()

    async def run(self) -> None:
        """Mine until cancelled. Raises NoExecutor where nothing can be trained here."""
        try:
            slots = await self._executor.start()
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_connected(http))
                for slot in range(slots):
                    tasks.create_task(self._mine(http, slot))
        finally:
            await self._executor.stop()
            self._lock.close()

    # --- the connection

    async def _stay_connected(self, http: aiohttp.ClientSession) -> None:
        least, most = self._backoff
        pause = least
        while True:
            url = self.state.url = self._choice.url
            try:
                link = self._next or await PoolLink.open(http, url, self._key, self._worker)
                self._next = None
                self._choice.connected()
                pause = least
                await self._converse(http, link)
                reason = self.state.trouble or "the pool closed the connection"
            except LinkError as error:
                reason = str(error)
                if self._choice.failed():
                    pause = least
            finally:
                self._disconnected()
            if self._next is not None:
                continue
            wait = pause * random.uniform(0.7, 1.3)
            where = f"next try at {self._choice.url} in {wait:.0f} s"
            self.state.say(f"not connected to {url}: {reason}; {where}", warn=True)
            await asyncio.sleep(wait)
            pause = min(most, pause * 2)

    async def _converse(self, http: aiohttp.ClientSession, link: PoolLink) -> None:
        if link.pool != self._pool:  # trainings that another pool leased end
            self._pool = link.pool
            self._lost.clear()
            self._set_work(None)
        self._link = link
        self._receipts = Receipts(self._promises, link.hello.pool)
        self.state.trouble = ""
        self.state.pool = address_text(link.pool)
        self.state.connect(True)
        self.state.say(f"connected to the pool {self.state.pool} at {link.url}")
        parts = [self._delivery.run(link), self._send_progress(link), self._courier.run(link)]
        if self._choice.away:
            parts.append(self._look_back(http, link))
        if self.state.watched:
            parts.append(self._ask_standing(link))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            async for message in link.receive():
                self._take(message)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await link.close()

    async def _look_back(self, http: aiohttp.ClientSession, link: PoolLink) -> None:
        """Return to the first pool when it answers, and nothing waits for this one any more."""
        while True:
            await asyncio.sleep(RETURN_SECONDS)
            if len(self._delivery.box(link.pool)):
                continue
            with contextlib.suppress(LinkError):
                self._next = await PoolLink.open(http, self._choice.first, self._key, self._worker)
                self._choice.back()
                self.state.say(f"the pool at {self._choice.first} is back")
                await link.close()
                return

    async def _ask_standing(self, link: PoolLink) -> None:
        while True:
            await link.send(StandingRequest())
            await asyncio.sleep(STANDING_SECONDS)

    def _disconnected(self) -> None:
        self._link = None
        self.state.connect(False)
        self._leases.disconnected()
        self._delivery.disconnected()
        self._courier.disconnected()

    def _take(self, message: Record) -> None:
        if isinstance(message, Announce):
            self._set_work(message.works[0].work if message.works else None)
        elif isinstance(message, LeaseGrant | LeaseDenied):
            self._leases.take(message.slot, message)
        elif isinstance(message, ShareAccepted | ShareRejected):
            self._delivery.take(message)
            if isinstance(message, ShareAccepted):
                self._see_head(message.head)
        elif isinstance(message, LeaseLost):
            self._lost.add(message.lease)
        elif isinstance(message, SignedHead):
            self._see_head(message)
        elif isinstance(message, Standing):
            self.state.stand(message)
        elif isinstance(message, StateTaken | StateRejected | StateGrant | StateDenied):
            self._courier.take(message)
        elif isinstance(message, Problem):
            self.state.trouble = f"{message.reason} ({message.code})"
            self.state.say(f"the pool says: {self.state.trouble}", warn=True)

    def _see_head(self, head: SignedHead) -> None:
        wrong = self._receipts.take(head) if self._receipts is not None else None
        if wrong is not None:
            self.state.say(f"do not trust this pool: {wrong}; run `ponas pool check`", warn=True)

    def _set_work(self, work: Work | None) -> None:
        same = work is not None and self._work is not None and work.id == self._work.id
        if work is not None and not same:
            self.state.say(f"epoch {work.epoch}: task {work.spec.name!r}, {work.spec.steps} steps")
            self._lost.clear()
        self._work = work
        self.state.epoch = work.epoch if work is not None else None
        self.state.task = work.spec.name if work is not None else ""
        if not same:
            self._changed.set()
            self._changed = asyncio.Event()

    def _acknowledged(self, share: bytes, points: int) -> None:
        if self._receipts is not None:
            self._receipts.add(share, points)

    async def _send_progress(self, link: PoolLink) -> None:
        sent: dict[int, Progress] = {}
        while True:
            await asyncio.sleep(min(5.0, link.silence / 5))
            for slot, progress in list(self._steps.items()):
                if sent.get(slot) != progress:
                    sent[slot] = progress
                    await link.send(progress)

    # --- one slot

    async def _mine(self, http: aiohttp.ClientSession, slot: int) -> None:
        while True:
            self.state.training(slot)
            work, changed, link = self._work, self._changed, self._link
            if work is None or link is None:
                await _wait(changed, 0.5)
                continue
            try:
                await self._fetch_dataset(http, link, work)
                answer = await self._ask(link, slot, work)
            except (LinkError, TimeoutError, UnknownSpace) as error:
                self.state.say(f"no work yet: {error or 'the pool does not answer'}", warn=True)
                await _wait(changed, RETRY_SECONDS)
                continue
            if isinstance(answer, LeaseDenied):
                self.state.say(f"no lease: {answer.reason} ({answer.code})")
                await _wait(changed, max(0.5, min(60.0, answer.retry / 1000)))
            elif isinstance(answer, LeaseGrant) and not await self._train_lease(slot, link, work, answer):
                await _wait(changed, RETRY_SECONDS)

    async def _ask(self, link: PoolLink, slot: int, work: Work) -> Record:
        if self._link is not link:
            raise LinkError("the connection was lost")
        trained = sorted(self._delivery.box(link.pool).genotypes(work.epoch, work.task))
        return await self._leases.ask(link, LeaseRequest(slot, tuple(trained[:256])), slot, ANSWER_SECONDS)

    async def _fetch_dataset(self, http: aiohttp.ClientSession, link: PoolLink, work: Work) -> None:
        spec = work.spec
        get_space(spec.space)  # raises UnknownSpace before anything is fetched for nothing
        async with self._fetching:
            if not self._artifacts.has(spec.dataset):
                self.state.say(f"fetching the dataset, {spec.dataset_bytes} bytes")
                self._artifacts.put(await fetch_artifact(http, link.url, spec.dataset, spec.dataset_bytes))

    async def _train_lease(self, slot: int, link: PoolLink, work: Work, lease: LeaseGrant) -> bool:
        """Train what the lease holds; False where an architecture failed. `link` is the connection that it came by."""
        if (lease.epoch, lease.task) != (work.epoch, work.task):
            return True  # the work changed while the pool answered
        for genotype in lease.genotypes:
            here = self._pool == link.pool and self._work is not None and self._work.id == work.id
            if lease.lease in self._lost or not here:
                return True
            if genotype in self._delivery.box(link.pool).genotypes(work.epoch, work.task):
                continue
            try:
                trained = await self._train(slot, link, work, lease, genotype)
            except TrainingFailed as error:
                self.state.say(f"training failed: {error}", warn=True)
                if self._link is not None:
                    with contextlib.suppress(LinkError):
                        await self._link.send(Release(lease.lease, genotype))
                return False
            if trained is None:
                return True
            self._keep_share(link, work, lease.lease, genotype, trained)
        return True

    async def _train(self, slot: int, link: PoolLink, work: Work, lease: LeaseGrant, genotype: bytes) -> Trained | None:
        """The trained architecture; None where the work ended meanwhile. It goes on from a state where it may."""
        spec, before = work.spec, lease.genotypes.index(genotype) * work.spec.steps
        self.state.training(slot, get_space(spec.space).text(genotype), genotype, spec.steps)

        def on_progress(step: int) -> None:
            self._steps[slot] = Progress(slot, lease.lease, before + step)
            self.state.stepped(slot, step)

        async def train() -> Trained:
            keeping = await self._courier.keeping(slot, link, work, lease, genotype)
            what = spec, genotype, work.seed, self._artifacts.root, on_progress
            try:
                return await self._executor.train(*what, keeping)
            except TrainingFailed as error:
                if keeping.start is None:
                    raise
                self.state.say(f"a state is of no use, the training begins anew: {error}", warn=True)
                return await self._executor.train(*what)
            finally:
                self._courier.forget(slot)

        changed, running = asyncio.create_task(self._changed.wait()), asyncio.create_task(train())
        try:
            await asyncio.wait({changed, running}, return_when=asyncio.FIRST_COMPLETED)
            return await running if running.done() else None
        finally:
            changed.cancel()
            running.cancel()
            await asyncio.gather(changed, running, return_exceptions=True)

    def _keep_share(self, link: PoolLink, work: Work, lease: int, genotype: bytes, trained: Trained) -> None:
        share = Share(
            link.hello.network, work.epoch, work.task, lease, genotype, trained.leaves,
            trained.validation_correct, len(trained.model), self._key.public,
        )  # fmt: skip
        self._delivery.add(link.pool, ShareUpload(sign_share(share, self._key), trained.model))
        text = get_space(work.spec.space).text(genotype)
        self.state.finished(trained.validation_correct, trained.validation_total, text)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
