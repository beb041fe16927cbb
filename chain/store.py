"""One LevelDB per node. Every change of tip is one synced write batch; caches change only after the write.

The layout of the keys stands in `chain.layout`. The store holds the best chain only: blocks of other branches live in
memory (see `chain.side`) and come back from peers after a restart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack
import plyvel

from chain import layout
from chain.batches import add_block, put_all, remove_block
from chain.cache import Cache
from chain.failures import Guard, StoreError, corrupt
from chain.indexing import rebuild
from chain.leveldb import compact, open_database, release
from chain.migration import check_meta
from chain.namespace import Namespace
from chain.rules import StateIndex
from chain.types import Block, Header

log = logging.getLogger(__name__)

_STATE_CACHE = 1 << 17
_NODE_CACHE = 1 << 17
_HEADER_CACHE = 4096
_BLOCK_CACHE = 32
_AT_ONCE = 4096  # entries of one write of many

Changes = Mapping[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class TipChange:
    """What one change of tip writes. `disconnected` newest first, `connected` oldest first, each with its undo.

    Where nothing is connected the tip moves back to the parent of the last one disconnected.
    """

    disconnected: tuple[Block, ...]
    connected: tuple[tuple[Block, Changes], ...]
    state: Changes
    nodes: Changes
    prune_below: int = 0  # undo records of lower heights are removed


class CachedMap:
    """Read access to one prefix of the database through a cache. Serves as a StateView and as a NodeReader."""

    __slots__ = ("_cache", "_prefix", "_store")

    def __init__(self, store: Store, prefix: bytes, most: int) -> None:
        self._store = store
        self._prefix = prefix
        self._cache: Cache[bytes, tuple[bytes | None]] = Cache(most)

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        cached = self._cache.get(key)
        if cached is not None:
            return cached[0]
        value = self._store.raw_get(self._prefix + key)
        self._cache.put(key, (value,))
        return value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every pair in the database, in order of keys, past the cache and with checksums verified."""
        for key, value in self._store.raw_iterate(self._prefix):
            yield key[1:], value

    def remember(self, changes: Changes) -> None:
        """Bring the cache up to date after `changes` were written."""
        for key, value in changes.items():
            self._cache.put(key, (value,))


class Store:
    """The database of one node on one network. Every access raises StoreError where the database fails."""

    def __init__(
        self, path: str | os.PathLike[str], network: bytes, *, create: bool = True, durable: bool = True
    ) -> None:
        """`durable`: every write is on disk before it counts; not so only for a database that is thrown away."""
        self._durable = durable
        self.path = Path(path).resolve()
        self.network = network
        self.index: StateIndex | None = None
        self.guard = Guard(self.path)
        self._db = open_database(self.path, create)
        try:
            with self.guard.reading():
                check_meta(self._db, self.path, network)
            self.base = int.from_bytes(self.raw_get(layout.META_BASE) or b"", "big")  # height at which the blocks begin
        except BaseException:
            self.close()
            raise
        self.state = CachedMap(self, layout.STATE, _STATE_CACHE)
        self.nodes = CachedMap(self, layout.NODE, _NODE_CACHE)
        self.facts = self.namespace(b"facts")
        self._headers: Cache[bytes, Header] = Cache(_HEADER_CACHE)
        self._blocks: Cache[bytes, Block] = Cache(_BLOCK_CACHE)

    def use_index(self, index: StateIndex | None) -> None:
        """Keep `index` from now on; all indexes are rebuilt first where they are incomplete or of another form."""
        self.index = index
        if self.raw_get(layout.META_INDEXES) != layout.INDEXES.to_bytes(4, "big"):
            log.info("building the indexes of %s", self.path)
            rebuild(self)

    def damaged(self, what: str) -> StoreError:
        """The error to raise where the database contradicts itself."""
        return self.guard.report(corrupt(self.path, what))

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._db.close()
        release(self.path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw_get(self, key: bytes) -> bytes | None:
        """Value at a whole key of the layout."""
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self.guard.failed(error) from error
        return value

    def raw_iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs under `prefix` in order, those before the key prefix + start left out."""
        options = {"verify_checksums": True, "fill_cache": False}
        with self.guard.reading(), self._db.iterator(prefix=prefix, **options) as iterator:
            if start:
                iterator.seek(prefix + start)
            yield from iterator

    def write(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write whole keys of the layout in one synced batch, past the caches: for what is no change of tip."""
        with self.guard.writing(), self._db.write_batch(transaction=True, sync=self._durable) as batch:
            put_all(batch, b"", entries)

    def write_in_parts(self, entries: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Write any number of entries, some thousands to a batch; returns how many there were."""
        count = 0
        rest = iter(entries)
        while part := list(islice(rest, _AT_ONCE)):
            self.write(part)
            count += len(part)
        return count

    def compact(self) -> None:
        """Let LevelDB rewrite its files without what was deleted or overwritten."""
        with self.guard.writing():
            compact(self._db)

    def namespace(self, name: bytes) -> Namespace:
        """The key-value map of another component, in this same database."""
        return Namespace(self._db, layout.namespace_prefix(name), self.guard)

    @property
    def tip(self) -> bytes | None:
        """Id of the tip; None before the first commit."""
        return self.raw_get(layout.META_TIP)

    def has(self, block_id: bytes) -> bool:
        """Whether a block is on the best chain."""
        return block_id in self._headers or self.raw_get(layout.HEADER + block_id) is not None

    def header(self, block_id: bytes) -> Header | None:
        """Header of a block of the best chain."""
        header = self._headers.get(block_id)
        if header is None:
            data = self.raw_get(layout.HEADER + block_id)
            if data is None:
                return None
            header = Header.decode(data)
            self._headers.put(block_id, header)
        return header

    def block(self, block_id: bytes) -> Block | None:
        """A block of the best chain."""
        block = self._blocks.get(block_id)
        if block is None:
            data = self.raw_get(layout.BLOCK + block_id)
            if data is None:
                return None
            block = Block.decode(data, len(data))
            self._blocks.put(block_id, block)
        return block

    def id_at(self, height: int) -> bytes | None:
        """Id of the block of the best chain at `height`."""
        return self.raw_get(layout.height_key(height)) if height >= 0 else None

    def undo(self, height: int) -> dict[bytes, bytes | None] | None:
        """What the canonical block at `height` overwrote; None where it was pruned."""
        data = self.raw_get(layout.undo_key(height))
        if data is None:
            return None
        pairs: list[tuple[bytes, bytes | None]] = msgpack.unpackb(data)
        return dict(pairs)

    def position(self, transaction_id: bytes) -> tuple[int, int] | None:
        """Height and index of a transaction of the best chain."""
        value = self.raw_get(layout.TRANSACTION + transaction_id)
        return None if value is None else layout.parse_position(value)

    def history(self, address: bytes, before: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
        """Height and index of every transaction that names `address`, newest first; only those before `before`."""
        start = b"" if before is None else layout.place(*before) + b"\0"
        for key, _ in self.raw_iterate(layout.HISTORY + address, start):
            yield layout.parse_history_key(key)

    def minted(self, owner: bytes, before: int | None = None) -> Iterator[int]:
        """Heights of the blocks that seats of the address `owner` minted, newest first; only those below `before`."""
        start = b"" if before is None else layout.complement(before) + b"\0"
        for key, _ in self.raw_iterate(layout.OWNER + owner, start):
            yield layout.parse_owner_key(key)

    def listed(self, prefix: bytes, after: bytes = b"") -> Iterator[bytes]:
        """Names of the rules' index that begin with `prefix`, the prefix cut off; only those after `after`."""
        start = after + b"\0" if after else b""
        for key, _ in self.raw_iterate(layout.LISTED + prefix, start):
            yield key[1 + len(prefix) :]

    def lowest_undo(self) -> int | None:
        """Least height that has an undo record."""
        found = next(self.raw_iterate(layout.UNDO), None)
        return None if found is None else int.from_bytes(found[0][1:], "big")

    def commit(self, change: TipChange) -> None:
        """Write one change of tip in one synced batch; then, and only then, change the caches."""
        if not change.connected and not change.disconnected:
            raise ValueError("a change of tip connects or disconnects at least one block")
        tip = change.connected[-1][0].id if change.connected else change.disconnected[-1].header.parent
        listed = self._index_changes(change.state)
        with self.guard.writing(), self._db.write_batch(transaction=True, sync=self._durable) as batch:
            for block in change.disconnected:
                remove_block(batch, block)
            for block, undo in change.connected:
                add_block(batch, block, undo)
            put_all(batch, layout.STATE, change.state.items())
            put_all(batch, layout.NODE, change.nodes.items())
            put_all(batch, layout.LISTED, listed)
            self._prune(batch, change.prune_below)
            batch.put(layout.META_TIP, tip)
        for block in change.disconnected:
            self._headers.drop(block.id)
            self._blocks.drop(block.id)
        for block, _ in change.connected:
            self._headers.put(block.id, block.header)
            self._blocks.put(block.id, block)
        self.state.remember(change.state)
        self.nodes.remember(change.nodes)

    def _index_changes(self, changes: Changes) -> list[tuple[bytes, bytes | None]]:
        """What `changes` of the state change in the rules' index; removals first, for a name may come again."""
        index = self.index
        if index is None:
            return []
        removed: list[tuple[bytes, bytes | None]] = []
        added: list[tuple[bytes, bytes | None]] = []
        for key, value in changes.items():
            if key.startswith(index.prefix):
                old = self.state.get(key)
                removed += [(name, None) for name in (() if old is None else index.names(key, old))]
                added += [(name, b"") for name in (() if value is None else index.names(key, value))]
        return removed + added

    def _prune(self, batch: Any, below: int) -> None:
        lowest = self.lowest_undo() if below > 0 else None
        if lowest is not None:
            for height in range(lowest, below):
                batch.delete(layout.undo_key(height))
