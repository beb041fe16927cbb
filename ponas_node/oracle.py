"""Establishes facts for the rules: fetches the artifacts, runs the check in a worker, remembers the answer.

Facts that a block needs come before those of waiting transactions. Answers are kept in the store: a fact never changes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from chain.cache import Cache
from chain.errors import Ignore
from consensus.facts import BeaconFact, ChallengeFact, DatasetFact, Fact, KeyFact, ScoreFact, artifacts_of, fact_key
from ponas_node.artifacts import ArtifactStore
from ponas_node.worker import Worker, WorkerDied, WorkerError

log = logging.getLogger(__name__)
FOR_BLOCK, FOR_MEMPOOL, FOR_OWN_SEARCH = 0, 1, 2
_KNOWN = 1 << 16  # answers kept in memory
_TIMEOUT = 60.0
_WARM_UP_TIMEOUT = 300.0


class Unavailable(Ignore):
    """A fact could not be established now: an artifact is not to be had, or the worker failed."""

    code = "fact_unavailable"


class FactStore(Protocol):
    """Where answers are kept."""

    def get(self, key: bytes) -> bytes | None:
        """Stored answer."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Keep an answer."""
        ...


Fetch = Callable[[bytes, int, bytes | None], Awaitable[bool]]


class Oracle:
    """Knows facts (`get`, for the rules) and establishes them (`establish`, for the node)."""

    def __init__(self, store: FactStore, artifacts: ArtifactStore, fetch: Fetch, device: str) -> None:
        self._store = store
        self._artifacts = artifacts
        self._fetch = fetch
        self._device = device
        self._worker = Worker("validator")
        self._known: Cache[bytes, int] = Cache(_KNOWN)
        self._pending: dict[bytes, asyncio.Task[int]] = {}
        self._queue = _PriorityLock()
        self.evaluated = 0  # score facts established here
        self.seconds = 0.0  # time the worker spent on them
        self.replayed = 0  # segments replayed for challenges

    def get(self, key: bytes) -> int | None:
        """The answer to a fact, or None where it is not known yet."""
        known = self._known.get(key)
        if known is None:
            stored = self._store.get(key)
            if stored is None:
                return None
            known = int.from_bytes(stored, "big", signed=True)
            self._known.put(key, known)
        return known

    async def establish(self, fact: Fact, priority: int, hint: bytes | None = None) -> int:
        """The answer to `fact`; raises Unavailable. `hint` is the key of a peer that should have the artifacts."""
        key = fact_key(fact)
        known = self.get(key)
        if known is not None:
            return known
        task = self._pending.get(key)
        if task is None:
            task = asyncio.create_task(self._establish(key, fact, priority, hint))
            self._pending[key] = task
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        return await asyncio.shield(task)

    async def warm_up(self) -> str:
        """Start the worker and test its device, so that the first reveal need not wait; answers the device in use.

        Raises WorkerError (InexactDevice) where the device is refused, WorkerDied where the test did not end.
        """
        async with self._queue.at(FOR_BLOCK):
            return str(await self._worker.call("warm_up", self._device, timeout=_WARM_UP_TIMEOUT))

    async def stop(self) -> None:
        """Give up everything under way."""
        tasks = list(self._pending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._worker.stop()

    async def _establish(self, key: bytes, fact: Fact, priority: int, hint: bytes | None) -> int:
        for id, size in artifacts_of(fact):
            have = self._artifacts.size(id)
            if have is None and not await self._fetch(id, size, hint):
                raise Unavailable(f"artifact {id.hex()[:16]} of {size} bytes is not to be had")
            if self._artifacts.size(id) != size:
                raise Unavailable(f"artifact {id.hex()[:16]} does not have the stated {size} bytes")
        async with self._queue.at(priority):
            answer = await self._run(fact)
        self._store.put(key, answer.to_bytes(8, "big", signed=True))
        self._known.put(key, answer)
        return answer

    async def _run(self, fact: Fact) -> int:
        started = asyncio.get_running_loop().time()
        folder = str(self._artifacts.root)
        try:
            if isinstance(fact, ScoreFact):
                answer = await self._worker.call("score", fact.encode(), folder, self._device, timeout=_TIMEOUT)
                self.evaluated += 1
                self.seconds += asyncio.get_running_loop().time() - started
            elif isinstance(fact, DatasetFact):
                answer = await self._worker.call("check_dataset", fact.encode(), folder, timeout=_TIMEOUT)
            elif isinstance(fact, KeyFact):
                answer = await self._worker.call("check_key", fact.encode(), folder, timeout=_TIMEOUT)
            elif isinstance(fact, BeaconFact):
                answer = await self._worker.call("check_beacon", fact.encode(), timeout=_TIMEOUT)
            elif isinstance(fact, ChallengeFact):
                answer = await self._worker.call("challenge", fact.encode(), folder, self._device, timeout=_TIMEOUT)
                self.replayed += 1
        except (WorkerDied, WorkerError) as error:
            log.warning("could not establish a fact: %s", error)
            raise Unavailable(f"the check could not be run: {error}") from error
        return int(answer)


class _PriorityLock:
    """One holder at a time; the lowest priority number waits least."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._held = False
        self._order = itertools.count()

    def at(self, priority: int) -> _Turn:
        return _Turn(self, priority)

    async def acquire(self, priority: int) -> None:
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (priority, next(self._order), turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            first = min(self._waiting)
            self._waiting.remove(first)
            if not first[2].cancelled():
                first[2].set_result(None)
                return
        self._held = False


class _Turn:
    def __init__(self, lock: _PriorityLock, priority: int) -> None:
        self._lock = lock
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._lock.acquire(self._priority)

    async def __aexit__(self, *error: object) -> None:
        self._lock.release()
