"""Figures of a database: what it holds, and how much of it."""

from __future__ import annotations

from typing import Any

from chain import layout
from chain.store import Store

_PARTS = {
    "blocks": layout.BLOCK,
    "headers": layout.HEADER,
    "heights": layout.HEIGHT,
    "undo records": layout.UNDO,
    "state entries": layout.STATE,
    "tree nodes": layout.NODE,
    "transactions by id": layout.TRANSACTION,
    "transactions by address": layout.HISTORY,
    "blocks by owner": layout.OWNER,
    "results by task": layout.LISTED,
    "other components": layout.NAMESPACE,
}


def figures(store: Store) -> dict[str, Any]:
    """Counts and bytes by kind of record, and what they take on disk."""
    tip = None if store.tip is None else store.header(store.tip)
    parts = {}
    for name, prefix in _PARTS.items():
        count = size = 0
        for key, value in store.raw_iterate(prefix):
            count += 1
            size += len(key) + len(value)
        parts[name] = {"entries": count, "bytes": size}
    return {
        "network": store.network.hex(),
        "layout": layout.SCHEMA,
        "height": None if tip is None else tip.height,
        "tip": None if tip is None else tip.id.hex(),
        "state_root": None if tip is None else tip.state_root.hex(),
        "first_height": store.base,
        "lowest_undo": store.lowest_undo(),
        "parts": parts,
        "bytes_on_disk": size_on_disk(store),
    }


def size_on_disk(store: Store) -> int:
    """Bytes of the database's files."""
    total = 0
    for path in store.path.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # LevelDB removes files in the background
            continue
    return total
