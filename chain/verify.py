"""A check of a whole database: blocks, indexes, state and tree against each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from chain import layout
from chain.errors import BadEncoding
from chain.hashing import EMPTY
from chain.indexing import expected_names
from chain.state import EmptyState, Overlay
from chain.store import Store
from chain.tree import update
from chain.types import Block, transactions_root

_MOST = 100  # findings after which the check stops


def verify_store(store: Store) -> Iterator[str]:
    """What is wrong with the database, one sentence each, at most 100; nothing where all is well."""
    return islice(_findings(store), _MOST)


def _findings(store: Store) -> Iterator[str]:
    tip_id = store.tip
    if tip_id is None:
        yield "there is no tip"
        return
    height, count, indexed = -1, 0, 0
    parent_id, tip_root = EMPTY, EMPTY
    for key, block_id in store.raw_iterate(layout.HEIGHT):
        height = store.base if count == 1 and store.base else height + 1
        if key != layout.height_key(height):
            yield f"height {height} has no block"
            return
        count += 1
        block = None
        follows = height > 0 and (height != store.base)
        for item in _check_block(store, height, block_id, parent_id if follows else None):
            if isinstance(item, Block):
                block = item
            else:
                yield item
        if block is not None:
            tip_root = block.header.state_root
            indexed += len(layout.index_keys(block))
        parent_id = block_id
    if parent_id != tip_id:
        yield f"the tip is {tip_id.hex()}, the highest block {parent_id.hex()}"
    yield from _check_count(store, count, indexed)
    yield from _check_listed(store)
    yield from _check_state(store, tip_root)


def _check_block(store: Store, height: int, block_id: bytes, parent_id: bytes | None) -> Iterator[Block | str]:
    """Findings on one block; the block itself first, where it can be read."""
    where = f"block {block_id.hex()[:16]} at height {height}"
    data = store.raw_get(layout.BLOCK + block_id)
    if data is None:
        yield f"{where} is missing"
        return
    try:
        block = Block.decode(data, len(data))
    except BadEncoding as error:
        yield f"{where} cannot be read: {error}"
        return
    yield block
    if block.id != block_id or block.header.height != height:
        yield f"{where} is another block"
    if store.raw_get(layout.HEADER + block_id) != block.header.raw:
        yield f"{where} and its stored header differ"
    if parent_id is not None and block.header.parent != parent_id:
        yield f"{where} does not follow the block before"
    if transactions_root(block.transactions) != block.header.transactions_root:
        yield f"{where} does not hold the transactions its header names"
    for key, value in layout.index_keys(block):
        if store.raw_get(key) != value:
            yield f"{where} lacks an index entry"


def _check_count(store: Store, blocks: int, indexed: int) -> Iterator[str]:
    entries = sum(1 for prefix in (layout.TRANSACTION, layout.HISTORY, layout.OWNER) for _ in store.raw_iterate(prefix))
    if entries != indexed:
        yield f"the indexes have {entries} entries, the blocks {indexed}"
    for prefix, name in ((layout.BLOCK, "blocks"), (layout.HEADER, "headers")):
        count = sum(1 for _ in store.raw_iterate(prefix))
        if count != blocks:
            yield f"{count} {name} are stored for {blocks} heights"


def _check_listed(store: Store) -> Iterator[str]:
    """Compare the rules' index with what the state says it should be."""
    if store.index is None:
        return
    found = {key[1:] for key, _ in store.raw_iterate(layout.LISTED)}
    for name in expected_names(store):
        if name not in found:
            yield f"the index lacks {name.hex()}"
        found.discard(name)
    for name in found:
        yield f"the index lists {name.hex()}, which the state does not"


def _check_state(store: Store, root: bytes) -> Iterator[str]:
    """Rebuild the tree from every stored value and compare root and nodes."""
    nodes = Overlay(EmptyState())
    rebuilt = update(nodes, dict(store.state.items()))
    if rebuilt != root:
        yield f"the state's root is {rebuilt.hex()}, the tip's header says {root.hex()}"
    expected = {key: value for key, value in nodes.changes.items() if value is not None}
    for key, value in store.nodes.items():
        if expected.pop(key, None) != value:
            yield f"tree node {key.hex()} is wrong"
    if expected:
        yield f"{len(expected)} tree nodes are missing"
