"""Artifacts from peers: hashes first, checked against the id, then chunks, each checked against its hash."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import partial

from chain.artifact import CHUNK, chunk_count, id_of_chunks
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import Misbehaviour, RequestFailed, TimedOut
from ponas_node.p2p.host import Host
from ponas_node.p2p.roster import Roster
from ponas_node.p2p.session import Session
from ponas_node.p2p.settings import NetworkSettings

log = logging.getLogger("ponas_node.p2p")
_PIPELINE = 8  # chunks of one peer in flight
_DOWNLOADS = 4  # artifacts at a time, which bounds the memory
_PAUSE = 0.25  # before all peers are asked again, at first
_MOST_PAUSE = 4.0


class Download:
    """An artifact that is being put together. Without I/O; progress outlives the peer it came from."""

    def __init__(self, id: bytes, size: int) -> None:
        self.id = id
        self.size = size
        self._hashes: list[bytes] | None = None
        self._chunks: dict[int, bytes] = {}

    @property
    def has_hashes(self) -> bool:
        """Whether the chunk hashes are known and proven."""
        return self._hashes is not None

    def take_hashes(self, size: int, joined: bytes) -> None:
        """Chunk hashes from a peer; raises Misbehaviour where they do not lead to the id."""
        hashes = [joined[start : start + 32] for start in range(0, len(joined), 32)]
        if size != self.size or len(joined) != 32 * chunk_count(self.size) or id_of_chunks(size, hashes) != self.id:
            raise Misbehaviour("bad_artifact", f"hashes that do not lead to artifact {self.id.hex()}")
        self._hashes = hashes

    def missing(self) -> list[int]:
        """Chunks still to fetch."""
        return [index for index in range(chunk_count(self.size)) if index not in self._chunks]

    def take_chunk(self, index: int, data: bytes) -> None:
        """A chunk from a peer; raises Misbehaviour where it is not the one."""
        hashes = self._hashes
        if hashes is None or len(data) != min(CHUNK, self.size - index * CHUNK):
            raise Misbehaviour("bad_artifact", f"chunk {index} of artifact {self.id.hex()} has a wrong length")
        if hashlib.sha256(data).digest() != hashes[index]:
            raise Misbehaviour("bad_artifact", f"chunk {index} of artifact {self.id.hex()} does not fit its hash")
        self._chunks[index] = data

    def content(self) -> bytes:
        """The whole, once nothing is missing."""
        return b"".join(self._chunks[index] for index in range(chunk_count(self.size)))


class _NotThere(Exception):
    """The peer does not have the artifact."""


@dataclass(slots=True)
class _Shared:
    deadline: float
    hints: list[bytes] = field(default_factory=list)
    waiting: int = 0
    task: asyncio.Task[bool] | None = None


class Fetcher:
    """Fetches artifacts into the node's store. Calls for the same artifact share one download."""

    def __init__(self, host: Host, roster: Roster, settings: NetworkSettings) -> None:
        self._host = host
        self._roster = roster
        self._settings = settings
        self._running: dict[tuple[bytes, int], _Shared] = {}
        self._slots = asyncio.Semaphore(_DOWNLOADS)

    async def fetch(self, id: bytes, size: int, hint: bytes | None, timeout: float) -> bool:
        """Have the artifact in the store; returns whether it is there. The peer `hint` is asked first."""
        if self._host.artifacts.has(id):
            return True
        if not 0 <= size <= self._host.max_artifact_bytes or chunk_count(size) > m.MAX_CHUNKS:
            return False
        key, deadline = (id, size), _clock() + timeout
        shared = self._running.get(key)
        if shared is None:
            shared = self._running[key] = _Shared(deadline)
        task = shared.task = shared.task or asyncio.create_task(self._download(Download(id, size), shared))
        shared.deadline = max(shared.deadline, deadline)
        if hint is not None and hint not in shared.hints:
            shared.hints.append(hint)
        shared.waiting += 1
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait([task])
        except TimeoutError:
            pass
        finally:
            shared.waiting -= 1
            if not shared.waiting or task.done():
                task.cancel()
                if self._running.get(key) is shared:
                    del self._running[key]
        return self._host.artifacts.has(id)

    def stop(self) -> None:
        """Give up all downloads."""
        for shared in list(self._running.values()):
            if shared.task is not None:
                shared.task.cancel()

    async def _download(self, download: Download, shared: _Shared) -> bool:
        async with self._slots:
            pause = _PAUSE
            while True:
                for session in self._order(shared.hints):
                    if await self._try(download, session):
                        return await self._keep(download)
                if _clock() + pause >= shared.deadline:
                    return False
                await asyncio.sleep(pause)
                pause = min(_MOST_PAUSE, pause * 2)

    async def _keep(self, download: Download) -> bool:
        try:
            await asyncio.to_thread(self._host.artifacts.put, download.content())
        except OSError:
            log.exception("artifact %s cannot be stored", download.id.hex())
            return False
        return True

    def _order(self, hints: list[bytes]) -> list[Session]:
        """Peers to ask: hints first, then the quickest."""
        return sorted(self._roster, key=lambda session: (session.key not in hints, session.latency or 9.0))

    async def _try(self, download: Download, session: Session) -> bool:
        """Fetch what is missing from one peer; returns whether nothing is missing any more."""
        try:
            if not download.has_hashes:
                await self._fetch_hashes(download, session)
            indexes = download.missing()
            workers = [self._fetch_chunks(download, session, indexes) for _ in range(min(_PIPELINE, len(indexes)))]
            await _all(workers)
            return True
        except Misbehaviour as error:
            self._roster.blame(session.key, error.code, str(error))
        except RequestFailed as error:
            if isinstance(error, TimedOut):
                self._roster.blame(session.key, "stalled", str(error))
        except _NotThere:
            pass
        return False

    async def _fetch_hashes(self, download: Download, session: Session) -> None:
        info = await session.request(
            lambda number: m.GetArtifact(number, download.id), m.ArtifactInfo, self._settings.request_timeout
        )
        if not info.hashes:
            raise _NotThere
        download.take_hashes(info.size, info.hashes)

    async def _fetch_chunks(self, download: Download, session: Session, indexes: list[int]) -> None:
        """Fetch chunks until none is left in `indexes`, which several of these share."""
        while indexes:
            index = indexes.pop(0)
            chunk = await session.request(
                partial(m.GetChunk, id=download.id, index=index), m.Chunk, self._settings.request_timeout
            )
            if not chunk.found:
                raise _NotThere
            download.take_chunk(index, chunk.data)


async def _all(workers: Sequence[Awaitable[None]]) -> None:
    """Run all; on the first failure cancel the others and raise it."""
    tasks = [asyncio.ensure_future(worker) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _clock() -> float:
    return asyncio.get_running_loop().time()
