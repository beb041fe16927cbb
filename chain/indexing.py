"""Rebuilding the indexes of a database from its blocks and its state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chain import layout
from chain.errors import BadEncoding
from chain.types import Block

if TYPE_CHECKING:
    from chain.store import Store


def rebuild(store: Store) -> int:
    """Remove every entry of the indexes and write them anew; returns how many there are now.

    The database says that its indexes are incomplete until all are there, so a kill on the way costs a new start only.
    """
    store.write([(layout.META_INDEXES, None)])
    for prefix in layout.INDEX_PREFIXES:
        store.write_in_parts((key, None) for key, _ in store.raw_iterate(prefix))
    count = store.write_in_parts(_expected_entries(store))
    store.write([(layout.META_INDEXES, layout.INDEXES.to_bytes(4, "big"))])
    return count


def _expected_entries(store: Store) -> Iterator[tuple[bytes, bytes]]:
    """Every entry that the indexes should have, in no order; raises StoreError where a block cannot be read."""
    for key, block_id in store.raw_iterate(layout.HEIGHT):
        raw = store.raw_get(layout.BLOCK + block_id)
        height = int.from_bytes(key[1:], "big")
        if raw is None:
            raise store.damaged(f"the block at height {height} is missing")
        try:
            yield from layout.index_keys(Block.decode(raw, len(raw)))
        except BadEncoding as error:
            raise store.damaged(f"the block at height {height} cannot be read ({error})") from error
    for name in expected_names(store):
        yield layout.LISTED + name, b""


def expected_names(store: Store) -> Iterator[bytes]:
    """Every name that the rules' index should list, by what the state holds."""
    index = store.index
    if index is not None:
        for key, value in store.raw_iterate(layout.STATE + index.prefix):
            yield from index.names(key[1:], value)
