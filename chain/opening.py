"""What is looked at each time a database is opened: quick, and enough to notice that a change of tip was lost."""

from __future__ import annotations

from chain import layout
from chain.errors import BadEncoding
from chain.store import Store
from chain.tree import tree_root
from chain.types import Block, Header

_LINKS = 128  # blocks below the tip whose links are followed


def check_tip(store: Store, tip_id: bytes) -> Header:
    """The tip's header, where the database is whole as far as a glance can tell; raises StoreError.

    Every change of tip adds a height. One that was lost, with a later one there, leaves a gap in the heights.
    """
    tip = _header(store, tip_id, "the tip")
    expected = store.base
    for key, _ in store.raw_iterate(layout.HEIGHT, store.base.to_bytes(8, "big")):
        if key != layout.height_key(expected):
            raise store.damaged(f"there is no block at height {expected}, though there are higher ones")
        expected += 1
    if expected != tip.height + 1:
        raise store.damaged(f"the tip has height {tip.height}, the highest block {expected - 1}")
    header = tip
    while True:
        if store.id_at(header.height) != header.id:
            raise store.damaged(f"the block at height {header.height} is not the one that the next one follows")
        if header.height <= max(store.base, tip.height - _LINKS):
            break
        header = _header(store, header.parent, f"the block before {header.id.hex()[:16]}")
    if tree_root(store.nodes) != tip.state_root:
        raise store.damaged(f"the state is not the one after the tip at height {tip.height}")
    _check_block(store, tip)
    return tip


def _header(store: Store, block_id: bytes, what: str) -> Header:
    try:
        header = store.header(block_id)
    except BadEncoding as error:
        raise store.damaged(f"the header of {what} cannot be read ({error})") from error
    if header is None:
        raise store.damaged(f"the header of {what} is missing")
    if header.id != block_id:
        raise store.damaged(f"the header of {what} is another one")
    return header


def _check_block(store: Store, tip: Header) -> None:
    try:
        block: Block | None = store.block(tip.id)
    except BadEncoding as error:
        raise store.damaged(f"the tip's block cannot be read ({error})") from error
    if block is None or block.id != tip.id:
        raise store.damaged("the tip's block is missing")
