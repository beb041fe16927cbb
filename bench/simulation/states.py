"""States in memory that share what they have in common: every block's state, for all nodes together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chain import layout
from chain.errors import Invalid
from chain.rules import StateIndex
from chain.store import Changes, TipChange
from chain.types import Block, Header


class Version:
    """An immutable map: changes on top of an earlier version.

    As in a Fenwick tree, version n holds together the changes of as many versions as the lowest bit of n says. So a
    read looks at no more than log2(n) of them, and each change is kept as often.
    """

    __slots__ = ("_below", "_changes", "depth", "own", "parent")

    def __init__(self, parent: Version | None, changes: Changes) -> None:
        self.parent = parent
        self.own = changes
        self.depth: int = 0 if parent is None else parent.depth + 1
        lowest = self.depth - (self.depth & -self.depth)
        layers, below = [changes], parent
        while below is not None and below.depth > lowest:
            layers.append(below._changes)
            below = below._below
        self._below: Version | None = below
        self._changes: Changes = changes if len(layers) == 1 else _merged(layers)

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        version: Version | None = self
        while version is not None:
            if key in version._changes:
                return version._changes[key]
            version = version._below
        return None

    def undo(self) -> dict[bytes, bytes | None]:
        """What every key that this version changed held before."""
        parent = self.parent
        return {key: None if parent is None else parent.get(key) for key in self.own}


def _merged(layers: list[Changes]) -> dict[bytes, bytes | None]:
    merged: dict[bytes, bytes | None] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return merged


class Library:
    """Every block that was executed, with the state and the tree after it; and what was found of those that were not.

    `checked`, by bytes of a block: how form or signatures are wrong, None where they are right. `refused`, by id: why
    the execution failed.
    """

    def __init__(self) -> None:
        self.blocks: dict[bytes, Block] = {}
        self.states: dict[bytes, tuple[Version, Version]] = {}
        self.checked: dict[bytes, tuple[type[Invalid], str, str] | None] = {}
        self.refused: dict[bytes, tuple[str, str]] = {}

    def add(self, block: Block, state: Changes, nodes: Changes) -> tuple[Version, Version]:
        """Keep what `block` changes on top of its parent, which must be here unless the block is genesis."""
        below = self.states.get(block.header.parent, (None, None))
        self.blocks[block.id] = block
        versions = self.states[block.id] = (Version(below[0], state), Version(below[1], nodes))
        return versions


class MemoryStore:
    """What `Chain` uses of `chain.store.Store`, over a library that all nodes share. It survives a simulated crash."""

    base = 0
    path = "memory"

    def __init__(self, library: Library) -> None:
        self._library = library
        self._ids: list[bytes] = []
        self._lowest = 0
        self.state: Version
        self.nodes: Version

    @property
    def tip(self) -> bytes | None:
        """Id of the tip; None before the first commit."""
        return self._ids[-1] if self._ids else None

    def use_index(self, index: StateIndex | None) -> None:
        """Nobody asks a simulated node for lists."""

    def id_at(self, height: int) -> bytes | None:
        """Id of the block of the best chain at `height`."""
        return self._ids[height] if 0 <= height < len(self._ids) else None

    def has(self, block_id: bytes) -> bool:
        """Whether a block is on the best chain."""
        return self.block(block_id) is not None

    def header(self, block_id: bytes) -> Header | None:
        """Header of a block of the best chain."""
        block = self.block(block_id)
        return None if block is None else block.header

    def block(self, block_id: bytes) -> Block | None:
        """A block of the best chain."""
        block = self._library.blocks.get(block_id)
        return block if block is not None and self.id_at(block.header.height) == block_id else None

    def undo(self, height: int) -> Mapping[bytes, bytes | None] | None:
        """What the block at `height` overwrote."""
        block_id = self.id_at(height)
        return None if block_id is None else self._library.states[block_id][0].undo()

    def lowest_undo(self) -> int | None:
        """Least height of which a store would still have the undo record; here nothing is ever pruned."""
        return self._lowest if self._lowest < len(self._ids) else None

    def raw_iterate(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Heights and ids, which a restart looks at."""
        if prefix != layout.HEIGHT:
            raise ValueError("only heights are kept")
        for height in range(int.from_bytes(start, "big"), len(self._ids)):
            yield layout.height_key(height), self._ids[height]

    def commit(self, change: TipChange) -> None:
        """Follow a change of tip."""
        del self._ids[len(self._ids) - len(change.disconnected) :]
        if not self._ids:
            block = change.connected[0][0]
            if block.id not in self._library.states:
                self._library.add(block, change.state, change.nodes)
        self._ids.extend(block.id for block, _ in change.connected)
        self._lowest = max(self._lowest, change.prune_below)
        self.state, self.nodes = self._library.states[self._ids[-1]]

    def close(self) -> None:
        """Nothing to close."""
