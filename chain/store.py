"""One LevelDB per node. Every change of tip is one synced write batch; caches change only after the write.

The layout of the keys stands in `chain.layout`. The store holds the best chain only: blocks of other branches live in
memory (see `chain.side`) and come back from peers after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import plyvel

from chain import layout
from chain.cache import Cache
from chain.namespace import Namespace
from chain.types import Block, Header

_STATE_CACHE = 1 << 17
_NODE_CACHE = 1 << 17
_HEADER_CACHE = 4096
_BLOCK_CACHE = 32

# Databases open in this process. LevelDB must not see a second attempt: in refusing it, it closes the lock file, and
# with that the operating system drops the lock that keeps other processes out.
_HELD: set[Path] = set()

Changes = Mapping[bytes, bytes | None]


class StoreError(Exception):
    """The database cannot be used. `code` is stable; `remedy` says what the operator can do."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy


def corrupt(path: Path, what: str) -> StoreError:
    """The error for a database that contradicts itself."""
    remedy = "Move the directory away and start again: the node then syncs anew from its peers."
    return StoreError("corrupt", f"The database in {path} is damaged: {what}.", remedy)


def other_network(path: Path, what: str) -> StoreError:
    """The error for a database of another network."""
    remedy = "Use another data directory, or the genesis file it was made with."
    return StoreError("other_network", f"The database in {path} {what}.", remedy)


@dataclass(frozen=True, slots=True)
class TipChange:
    """What one change of tip writes. `disconnected` newest first, `connected` oldest first, each with its undo."""

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
    """The database of one node on one network.

    Raises StoreError with code missing, not_creatable, locked, corrupt, other_network, newer_schema or io.
    """

    def __init__(self, path: str | os.PathLike[str], network: bytes, *, create: bool = True) -> None:
        self.path = Path(path).resolve()
        self.network = network
        self._db = _open(self.path, create)
        _HELD.add(self.path)
        try:
            self._check_meta()
        except BaseException:
            self.close()
            raise
        self.state = CachedMap(self, layout.STATE, _STATE_CACHE)
        self.nodes = CachedMap(self, layout.NODE, _NODE_CACHE)
        self.facts = Namespace(self._db, layout.FACT)
        self._headers: Cache[bytes, Header] = Cache(_HEADER_CACHE)
        self._blocks: Cache[bytes, Block] = Cache(_BLOCK_CACHE)

    def _check_meta(self) -> None:
        schema, network = self.raw_get(layout.META_SCHEMA), self.raw_get(layout.META_NETWORK)
        if schema is None and network is None:
            if next(self.raw_iterate(b""), None) is not None:
                raise corrupt(self.path, "it holds data but does not say of which network")
            with self._db.write_batch(sync=True) as batch:
                batch.put(layout.META_SCHEMA, layout.SCHEMA.to_bytes(4, "big"))
                batch.put(layout.META_NETWORK, self.network)
            return
        if schema is None or network is None or len(schema) != 4:
            raise corrupt(self.path, "its description is incomplete")
        version = int.from_bytes(schema, "big")
        if version != layout.SCHEMA:
            message = f"The database in {self.path} has layout {version}; this program reads layout {layout.SCHEMA}."
            raise StoreError("newer_schema", message, "Install a newer version, or use another data directory.")
        if network != self.network:
            raise other_network(self.path, f"belongs to network {network.hex()[:16]}, not {self.network.hex()[:16]}")

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._db.close()
        _HELD.discard(self.path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw_get(self, key: bytes) -> bytes | None:
        """Value at a whole key of the layout."""
        try:
            value: bytes | None = self._db.get(key)
        except plyvel.Error as error:
            raise _translate(self.path, error) from error
        return value

    def raw_iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs under `prefix` in order, checksums verified."""
        try:
            with self._db.iterator(prefix=prefix, verify_checksums=True, fill_cache=False) as iterator:
                yield from iterator
        except plyvel.Error as error:
            raise _translate(self.path, error) from error

    def namespace(self, name: bytes) -> Namespace:
        """The key-value map of another component, in this same database."""
        return Namespace(self._db, layout.namespace_prefix(name))

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

    def history(self, address: bytes) -> Iterator[tuple[int, int]]:
        """Height and index of every transaction that names `address`, newest first."""
        with self._db.iterator(prefix=layout.HISTORY + address, include_value=False) as iterator:
            for key in iterator:
                yield layout.parse_history_key(key)

    def lowest_undo(self) -> int | None:
        """Least height that has an undo record."""
        with self._db.iterator(prefix=layout.UNDO, include_value=False) as iterator:
            key = next(iterator, None)
        return None if key is None else int.from_bytes(key[1:], "big")

    def commit(self, change: TipChange) -> None:
        """Write one change of tip in one synced batch; then, and only then, change the caches."""
        tip = change.connected[-1][0] if change.connected else None
        if tip is None:
            raise ValueError("a change of tip connects at least one block")
        try:
            with self._db.write_batch(transaction=True, sync=True) as batch:
                for block in change.disconnected:
                    _remove_block(batch, block)
                for block, undo in change.connected:
                    _add_block(batch, block, undo)
                _write(batch, layout.STATE, change.state)
                _write(batch, layout.NODE, change.nodes)
                self._prune(batch, change.prune_below)
                batch.put(layout.META_TIP, tip.id)
        except plyvel.Error as error:
            raise _translate(self.path, error) from error
        for block in change.disconnected:
            self._headers.drop(block.id)
            self._blocks.drop(block.id)
        for block, _ in change.connected:
            self._headers.put(block.id, block.header)
            self._blocks.put(block.id, block)
        self.state.remember(change.state)
        self.nodes.remember(change.nodes)

    def _prune(self, batch: Any, below: int) -> None:
        lowest = self.lowest_undo() if below > 0 else None
        if lowest is not None:
            for height in range(lowest, below):
                batch.delete(layout.undo_key(height))


def _write(batch: Any, prefix: bytes, changes: Changes) -> None:
    for key, value in changes.items():
        if value is None:
            batch.delete(prefix + key)
        else:
            batch.put(prefix + key, value)


def _add_block(batch: Any, block: Block, undo: Changes) -> None:
    header = block.header
    batch.put(layout.BLOCK + block.id, block.raw)
    batch.put(layout.HEADER + block.id, header.raw)
    batch.put(layout.height_key(header.height), block.id)
    batch.put(layout.undo_key(header.height), msgpack.packb(list(undo.items())))
    for key, value in layout.index_keys(block):
        batch.put(key, value)


def _remove_block(batch: Any, block: Block) -> None:
    batch.delete(layout.BLOCK + block.id)
    batch.delete(layout.HEADER + block.id)
    batch.delete(layout.height_key(block.header.height))
    batch.delete(layout.undo_key(block.header.height))
    for key, _ in layout.index_keys(block):
        batch.delete(key)


def _open(path: Path, create: bool) -> Any:
    if path in _HELD:
        raise _locked(path, "by this process")
    if path.exists() and not path.is_dir():
        raise StoreError("not_creatable", f"{path} is not a directory.", "Choose another data directory.")
    if not path.exists():
        if not create:
            raise StoreError("missing", f"There is no database in {path}.", "Check the data directory, or create one.")
        try:
            path.mkdir(parents=True)
        except OSError as error:
            message = f"The data directory {path} cannot be created: {error.strerror}."
            remedy = "Choose another directory, or grant the right to write."
            raise StoreError("not_creatable", message, remedy) from error
    try:
        return plyvel.DB(str(path), create_if_missing=create, bloom_filter_bits=10, write_buffer_size=16 << 20)
    except plyvel.Error as error:
        raise _translate(path, error) from error


def _locked(path: Path, by: str) -> StoreError:
    message = f"The database in {path} is in use {by}."
    return StoreError("locked", message, "Stop what uses it, or use another data directory.")


def _translate(path: Path, error: Exception) -> StoreError:
    text = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    if "lock" in text.lower() and "LOCK" in text:
        if "ermission denied" in text:
            remedy = "Grant the right to write there, or choose another directory."
            return StoreError("not_creatable", f"The data directory {path} cannot be written to.", remedy)
        return _locked(path, "by another process")
    if isinstance(error, plyvel.CorruptionError) or "orruption" in text or "No such file" in text:
        return corrupt(path, text)
    if "does not exist" in text:
        return StoreError("missing", f"There is no database in {path}.", "Check the data directory, or create one.")
    return StoreError("io", f"The database in {path} failed: {text}.", "Check the disk's free space and health.")
