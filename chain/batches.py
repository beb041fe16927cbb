"""What a write batch holds of a block that joins or leaves the best chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

from chain import layout
from chain.types import Block


def put_all(batch: Any, prefix: bytes, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Set or remove (None) keys under `prefix`."""
    for key, value in changes:
        if value is None:
            batch.delete(prefix + key)
        else:
            batch.put(prefix + key, value)


def add_block(batch: Any, block: Block, undo: Mapping[bytes, bytes | None]) -> None:
    """Everything that a block of the best chain has, but its state."""
    header = block.header
    batch.put(layout.BLOCK + block.id, block.raw)
    batch.put(layout.HEADER + block.id, header.raw)
    batch.put(layout.height_key(header.height), block.id)
    batch.put(layout.undo_key(header.height), msgpack.packb(list(undo.items())))
    for key, value in layout.index_keys(block):
        batch.put(key, value)


def remove_block(batch: Any, block: Block) -> None:
    """The opposite of `add_block`."""
    batch.delete(layout.BLOCK + block.id)
    batch.delete(layout.HEADER + block.id)
    batch.delete(layout.height_key(block.header.height))
    batch.delete(layout.undo_key(block.header.height))
    for key, _ in layout.index_keys(block):
        batch.delete(key)
