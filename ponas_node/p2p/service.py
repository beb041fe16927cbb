"""Answers to peers' questions about blocks, artifacts and addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from chain.artifact import CHUNK, chunk_count, chunk_hashes
from chain.cache import Cache
from chain.encoding import Record
from ponas_node.p2p import messages as m
from ponas_node.p2p.host import Host
from ponas_node.p2p.session import Session

_HASHES = 64  # artifacts whose chunk hashes are kept in memory


class Service:
    """Serves peers from the node's chain and artifacts. `addresses` gives what to tell of other nodes."""

    def __init__(self, host: Host, addresses: Callable[[], list[str]]) -> None:
        self._host = host
        self._addresses = addresses
        self._hashes: Cache[bytes, bytes] = Cache(_HASHES)

    async def answer(self, session: Session, message: Record) -> bool:
        """Answer a question; returns whether it was one."""
        if isinstance(message, m.GetBlocks):
            found = self._host.chain.after(list(message.locator), m.MAX_BATCH_BLOCKS, m.MAX_BATCH_BYTES)
            session.send(m.Blocks(message.request, tuple(block.raw for block in found)))
        elif isinstance(message, m.GetHeaders):
            headers = self._host.chain.headers_after(list(message.locator), min(message.most, m.MAX_HEADERS))
            session.send(m.Headers(message.request, tuple(headers)))
        elif isinstance(message, m.GetArtifact):
            size, hashes = await self._info(message.id)
            session.send(m.ArtifactInfo(message.request, size, hashes))
        elif isinstance(message, m.GetChunk):
            data = await asyncio.to_thread(_read_chunk, self._host.artifacts.path(message.id), message.index)
            session.send(m.Chunk(message.request, data is not None, data or b""))
        elif isinstance(message, m.GetPeers):
            session.send(m.Peers(message.request, tuple(self._addresses()[: m.MAX_ADDRESSES])))
        else:
            return False
        return True

    async def _info(self, id: bytes) -> tuple[int, bytes]:
        size = self._host.artifacts.size(id)
        if size is None or chunk_count(size) > m.MAX_CHUNKS:
            return 0, b""
        hashes = self._hashes.get(id)
        if hashes is None:
            hashes = await asyncio.to_thread(_hash, self._host.artifacts.path(id))
            self._hashes.put(id, hashes)
        return size, hashes


def _hash(path: Path) -> bytes:
    try:
        return b"".join(chunk_hashes(path.read_bytes()))
    except OSError:
        return b""


def _read_chunk(path: Path, index: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if index >= chunk_count(file.tell()):
                return None
            file.seek(index * CHUNK)
            return file.read(CHUNK)
    except OSError:
        return None
