"""The state as a file, and a database made of one.

The container is that of `chain.frames`, kind `state`. Its first frame is the canonical bytes of the block after which
this is the state. Every other frame is an entry of the state: length of the key (2 bytes), key, value; in ascending
order of the keys, so that one state has one file.

Nothing in the file is believed: the block must be the one whose id the caller trusts, and the entries must have the
state root of its header.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from chain import layout
from chain.chain import make_genesis
from chain.errors import BadEncoding, Invalid
from chain.export import Progress, raw_block
from chain.frames import BadFile, FrameFile, sync_folder, writing
from chain.ledger import check_stateless
from chain.rules import Rules
from chain.state import Overlay
from chain.store import Changes, Store
from chain.tree import update
from chain.types import Block, Header

KIND = b"state"
_AT_ONCE = 1 << 15  # entries that are put into the tree together
_MAX_KEY = 256


class OutOfReach(ValueError):
    """The state at the height that was asked for can no longer be had; the message says which can."""


def final_height(store: Store, tip: Header, max_rollback: int) -> int:
    """The highest block that no reorganisation can reach any more, or the first one that is stored."""
    header = tip
    while header.height > store.base and tip.slot - header.slot < max_rollback:
        before = store.header(header.parent)
        if before is None:
            raise store.damaged(f"the header before height {header.height} is missing")
        header = before
    return header.height


def write_snapshot(store: Store, tip: Header, height: int, path: Path, progress: Progress) -> int:
    """Write the state after the block at `height` to a new file; returns the number of entries. Raises OutOfReach."""
    changes = _undone(store, tip.height, height)
    entries = 0
    with writing(path, KIND, store.network) as file:
        file.write(raw_block(store, height))
        for key, value in _merged(store.state.items(), changes):
            file.write(len(key).to_bytes(2, "big") + key + value)
            entries += 1
            progress(entries, 0)
    return entries


def _undone(store: Store, tip: int, height: int) -> dict[bytes, bytes | None]:
    """What to change in the state after the tip to have the one after `height`."""
    changes: dict[bytes, bytes | None] = {}
    for undone in range(tip, height, -1):
        undo = store.undo(undone)
        if undo is None:
            raise OutOfReach(
                f"The state after height {height} is gone: the database can go back to height {undone}. Choose a "
                f"height from {undone} to {tip}."
            )
        changes.update(undo)
    return changes


def _merged(items: Iterator[tuple[bytes, bytes]], changes: Changes) -> Iterator[tuple[bytes, bytes]]:
    """`items`, in order of keys, with `changes` applied."""
    pending = sorted(changes.items(), reverse=True)
    for key, value in items:
        while pending and pending[-1][0] < key:
            yield from _present(*pending.pop())
        if pending and pending[-1][0] == key:
            yield from _present(*pending.pop())
        else:
            yield key, value
    while pending:
        yield from _present(*pending.pop())


def _present(key: bytes, value: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    if value is not None:
        yield key, value


def restore_snapshot(path: Path, rules: Rules, trusted: bytes, target: Path, progress: Progress) -> Block:
    """Make a database at `target`, where there is none, of the state after the block `trusted`; returns that block.

    Raises BadFile where the file does not hold exactly that state; nothing is left behind then.
    """
    file = FrameFile(path, KIND, rules.network)
    block = _trusted_block(file, rules, trusted)
    building = target.with_name(target.name + ".restoring")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with Store(building, rules.network) as store:
            root = _fill(store, file, progress)
            if root != block.header.state_root:
                raise BadFile(f"{path} does not hold the state after block {trusted.hex()}: it was made up or damaged.")
            _finish(store, rules, block)
        building.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return block


def _trusted_block(file: FrameFile, rules: Rules, trusted: bytes) -> Block:
    try:
        block = Block.decode(next(iter(file), b""))
    except BadEncoding as error:
        raise BadFile(f"{file.path} holds no block: it was made up or damaged.") from error
    if block.id != trusted:
        raise BadFile(
            f"{file.path} is the state after block {block.id.hex()} at height {block.header.height}, not after the "
            "trusted one."
        )
    if block.header.height:
        try:
            check_stateless(rules, block)
        except Invalid as error:
            raise BadFile(f"{file.path} holds a block that breaks the rules: {error}.") from error
    return block


def _fill(store: Store, file: FrameFile, progress: Progress) -> bytes:
    """Write the entries and their tree; returns the root."""
    last = b""
    batch: dict[bytes, bytes | None] = {}
    root = update(Overlay(store.nodes), {})
    frames = iter(file)
    next(frames)
    for number, frame in enumerate(frames, 1):
        size = int.from_bytes(frame[:2], "big")
        key, value = frame[2 : 2 + size], frame[2 + size :]
        if not 1 <= size <= _MAX_KEY or len(key) < size or key <= last:
            raise BadFile(f"{file.path} does not hold a state: its entry {number} is malformed or out of order.")
        batch[key] = value
        last = key
        if len(batch) == _AT_ONCE or number == file.frames - 1:
            root = _add(store, batch)
            batch = {}
            progress(number, file.frames - 1)
    return root


def _add(store: Store, batch: dict[bytes, bytes | None]) -> bytes:
    nodes = Overlay(store.nodes)
    root = update(nodes, batch)
    store.write(((layout.STATE + key, value) for key, value in batch.items()))
    store.write(((layout.NODE + key, value) for key, value in nodes.changes.items()))
    store.nodes.remember(nodes.changes)
    return root


def _finish(store: Store, rules: Rules, block: Block) -> None:
    """Write the block, genesis and what makes the database whole; the indexes are built when it is opened."""
    genesis = Block(make_genesis(rules)[0], ())
    entries: list[tuple[bytes, bytes | None]] = [(layout.META_INDEXES, None)]
    for each in (genesis, block):
        entries += [
            (layout.BLOCK + each.id, each.raw),
            (layout.HEADER + each.id, each.header.raw),
            (layout.height_key(each.header.height), each.id),
        ]
    entries += [(layout.META_BASE, block.header.height.to_bytes(8, "big")), (layout.META_TIP, block.id)]
    store.write(entries)
