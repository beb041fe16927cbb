"""A member of a pool: leases architectures, trains them, sends shares, and survives the loss of pool or process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import random
import secrets
import signal
from pathlib import Path
from typing import IO

import aiohttp

from chain.encoding import Record
from chain.keys import PrivateKey, address_of, address_text
from consensus.spaces import UnknownSpace, get_space
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.executor import Trained, TrainingExecutor, TrainingFailed
from ponas_node.miner.link import LinkError, PoolLink, fetch_artifact
from ponas_node.miner.outbox import Outbox
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
)
from pool.records import Share, sign_share
from pool.work import Work

log = logging.getLogger(__name__)
ANSWER_SECONDS = 120.0
RETRY_SECONDS = 2.0


class DataInUse(Exception):
    """Another miner runs in this data directory."""


class PoolMember:
    """See the module. `data` holds what must survive: the dataset, this machine's name, unacknowledged shares."""

    def __init__(
        self,
        url: str,
        key: PrivateKey,
        data: Path,
        executor: TrainingExecutor,
        state: MinerState | None = None,
        backoff: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """Raises DataInUse where another miner runs in `data`."""
        data.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(data)
        self.state = state or MinerState()
        self.state.url = url
        self._url, self._key, self._executor = url, key, executor
        self._worker = _worker_name(data)
        self._artifacts = ArtifactStore(data / "artifacts")
        self._outbox = Outbox(data / "outbox")
        self._promises = data / "receipts"
        self._receipts: Receipts | None = None
        self._backoff = backoff
        self._link: PoolLink | None = None
        self._network = b""
        self._work: Work | None = None
        self._changed = asyncio.Event()  # replaced at every change of work or connection
        self._leases: dict[int, asyncio.Future[Record]] = {}
        self._answers: dict[bytes, asyncio.Future[Record]] = {}
        self._lost: set[int] = set()
        self._steps: dict[int, Progress] = {}
        self._filled = asyncio.Event()
        self._fetching = asyncio.Lock()

    async def run(self) -> None:
        """Mine until cancelled."""
        try:
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_connected(http))
                for slot in range(self._executor.slots):
                    tasks.create_task(self._mine(http, slot))
        finally:
            await self._executor.stop()
            self._lock.close()

    # --- the connection

    async def _stay_connected(self, http: aiohttp.ClientSession) -> None:
        least, most = self._backoff
        pause = least
        while True:
            try:
                self._link = await PoolLink.open(http, self._url, self._key, self._worker)
                pause = least
                await self._converse(self._link)
                reason = self.state.trouble or "the pool closed the connection"
            except LinkError as error:
                reason = str(error)
            finally:
                self._disconnected()
            wait = pause * random.uniform(0.7, 1.3)
            self.state.say(f"not connected to {self._url}: {reason}; next try in {wait:.0f} s", warn=True)
            await asyncio.sleep(wait)
            pause = min(most, pause * 2)

    async def _converse(self, link: PoolLink) -> None:
        self._network = link.hello.network
        self._receipts = Receipts(self._promises, link.hello.pool)
        self.state.trouble = ""
        self.state.pool = address_text(address_of(link.hello.pool))
        self.state.connected = True
        self.state.say(f"connected to the pool {self.state.pool} at {self._url}")
        tasks = [asyncio.create_task(self._send_shares(link)), asyncio.create_task(self._send_progress(link))]
        try:
            async for message in link.receive():
                self._take(message)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await link.close()

    def _disconnected(self) -> None:
        self._link = None
        self.state.connected = False
        for future in [*self._leases.values(), *self._answers.values()]:
            if not future.done():
                future.set_exception(LinkError("the connection was lost"))
        self._leases.clear()
        self._answers.clear()

    def _take(self, message: Record) -> None:
        if isinstance(message, Announce):
            self._set_work(message.works[0].work if message.works else None)
        elif isinstance(message, LeaseGrant | LeaseDenied):
            _resolve(self._leases.pop(message.slot, None), message)
        elif isinstance(message, ShareAccepted | ShareRejected):
            _resolve(self._answers.pop(message.share, None), message)
        elif isinstance(message, LeaseLost):
            self._lost.add(message.lease)
        elif isinstance(message, SignedHead) and self._receipts is not None:
            wrong = self._receipts.take(message)
            if wrong is not None:
                self.state.say(f"do not trust this pool: {wrong}; run `ponas pool check`", warn=True)
        elif isinstance(message, Problem):
            self.state.trouble = f"{message.reason} ({message.code})"
            self.state.say(f"the pool says: {self.state.trouble}", warn=True)

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

    # --- shares on their way

    async def _send_shares(self, link: PoolLink) -> None:
        while True:
            upload = self._outbox.next()
            self.state.waiting = len(self._outbox)
            if upload is None:
                self._filled.clear()
                await self._filled.wait()
                continue
            id = upload.signed.share.id
            if len(upload.model) > link.hello.max_model_bytes:
                self._settle(upload, ShareRejected(id, "model_too_large", "larger than the pool takes", False))
                continue
            future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
            self._answers[id] = future
            try:
                await link.send(upload)
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await future
            except (LinkError, TimeoutError):
                await link.close()  # the share stays in the outbox, and goes out again on the next connection
                return
            if not self._settle(upload, answer):
                await asyncio.sleep(RETRY_SECONDS)

    def _settle(self, upload: ShareUpload, answer: Record) -> bool:
        """Take the pool's answer to a share; False where it must be sent again."""
        share = upload.signed.share
        if isinstance(answer, ShareRejected):
            if answer.retry:
                self.state.say(f"share {share.id.hex()[:12]} will be sent again: {answer.reason}")
                return False
            self.state.rejected[answer.code] += 1
            self.state.say(f"share {share.id.hex()[:12]} rejected: {answer.reason} ({answer.code})", warn=True)
        elif isinstance(answer, ShareAccepted):
            if self._receipts is not None:
                self._receipts.add(share.id, answer.points)
            self.state.accepted += 1
            self.state.points += answer.points
            self.state.say(f"share {share.id.hex()[:12]} accepted: {answer.points} points")
        self._outbox.done(share.id)
        return True

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
            work, changed = self._work, self._changed
            if work is None or self._link is None:
                await _wait(changed, 0.5)
                continue
            try:
                await self._fetch_dataset(http, work)
                answer = await self._ask(slot, work)
            except (LinkError, TimeoutError, UnknownSpace) as error:
                self.state.say(f"no work yet: {error or 'the pool does not answer'}", warn=True)
                await _wait(changed, RETRY_SECONDS)
                continue
            if isinstance(answer, LeaseDenied):
                self.state.say(f"no lease: {answer.reason} ({answer.code})")
                await _wait(changed, max(0.5, min(60.0, answer.retry / 1000)))
            elif isinstance(answer, LeaseGrant) and not await self._train_lease(slot, work, answer):
                await _wait(changed, RETRY_SECONDS)

    async def _ask(self, slot: int, work: Work) -> Record:
        if self._link is None:
            raise LinkError("not connected")
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._leases[slot] = future
        await self._link.send(LeaseRequest(slot, self._trained(work)))
        async with asyncio.timeout(ANSWER_SECONDS):
            return await future

    def _trained(self, work: Work) -> tuple[bytes, ...]:
        return tuple(sorted(self._outbox.genotypes(work.epoch, work.task)))[:256]

    async def _fetch_dataset(self, http: aiohttp.ClientSession, work: Work) -> None:
        spec = work.spec
        get_space(spec.space)  # raises UnknownSpace before anything is fetched for nothing
        async with self._fetching:
            if not self._artifacts.has(spec.dataset):
                self.state.say(f"fetching the dataset, {spec.dataset_bytes} bytes")
                self._artifacts.put(await fetch_artifact(http, self._url, spec.dataset, spec.dataset_bytes))

    async def _train_lease(self, slot: int, work: Work, lease: LeaseGrant) -> bool:
        """Train what the lease holds; False where an architecture failed."""
        if (lease.epoch, lease.task) != (work.epoch, work.task):
            return True  # the work changed while the pool answered
        for number, genotype in enumerate(lease.genotypes):
            if lease.lease in self._lost or self._work is None or self._work.id != work.id:
                return True
            if genotype in self._outbox.genotypes(work.epoch, work.task):
                continue
            try:
                trained = await self._train(slot, work, lease.lease, number * work.spec.steps, genotype)
            except TrainingFailed as error:
                self.state.say(f"training failed: {error}", warn=True)
                if self._link is not None:
                    with contextlib.suppress(LinkError):
                        await self._link.send(Release(lease.lease, genotype))
                return False
            if trained is None:
                return True
            self._keep_share(work, lease.lease, genotype, trained)
        return True

    async def _train(self, slot: int, work: Work, lease: int, before: int, genotype: bytes) -> Trained | None:
        """The trained architecture; None where the work ended meanwhile."""
        spec = work.spec
        self.state.training(slot, get_space(spec.space).text(genotype), genotype, spec.steps)

        def on_progress(step: int) -> None:
            self._steps[slot] = Progress(slot, lease, before + step)
            self.state.stepped(slot, step)

        changed = asyncio.create_task(self._changed.wait())
        train = asyncio.create_task(self._executor.train(spec, genotype, work.seed, self._artifacts.root, on_progress))
        try:
            await asyncio.wait({changed, train}, return_when=asyncio.FIRST_COMPLETED)
            return await train if train.done() else None
        finally:
            changed.cancel()
            train.cancel()
            await asyncio.gather(changed, train, return_exceptions=True)

    def _keep_share(self, work: Work, lease: int, genotype: bytes, trained: Trained) -> None:
        share = Share(
            self._network, work.epoch, work.task, lease, genotype, trained.leaves,
            trained.validation_correct, len(trained.model), self._key.public,
        )  # fmt: skip
        self._outbox.add(ShareUpload(sign_share(share, self._key), trained.model))
        self.state.finished(trained.validation_correct, trained.validation_total)
        self._filled.set()


async def run_member(url: str, key: PrivateKey, data: Path, device: str, together: int = 1) -> int:
    """`ponas mine --pool`: mine until SIGINT or SIGTERM. Answers the exit code."""
    try:
        member = PoolMember(url, key, data, TrainingExecutor(together, device))
    except DataInUse as error:
        log.error("%s", error)
        return 1
    task = asyncio.create_task(member.run())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return 0


def _resolve(future: asyncio.Future[Record] | None, message: Record) -> None:
    if future is not None and not future.done():
        future.set_result(message)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _lock(data: Path) -> IO[str]:
    file = (data / "miner.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataInUse(f"another miner runs in {data}: stop it, or give this one its own --data") from error
    return file


def _worker_name(data: Path) -> bytes:
    """A name for this machine, so that two machines under one wallet do not get in each other's way."""
    path = data / "worker"
    with contextlib.suppress(FileNotFoundError, ValueError):
        name = bytes.fromhex(path.read_text())
        if len(name) == 8:
            return name
    name = secrets.token_bytes(8)
    path.write_text(name.hex())
    return name
