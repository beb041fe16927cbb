"""Blocks that are not on the best chain: a bounded pool in memory, and a bounded memory of bad ones."""

from __future__ import annotations

from collections.abc import Iterator

from chain.cache import Cache
from chain.types import Block

MAX_SIDE_BLOCKS = 4096
MAX_SIDE_BYTES = 128 << 20
MAX_BAD = 16384


class SidePool:
    """Blocks of side branches, checked without state only. The oldest go first, each with its descendants."""

    def __init__(self, most_blocks: int = MAX_SIDE_BLOCKS, most_bytes: int = MAX_SIDE_BYTES) -> None:
        self._most_blocks = most_blocks
        self._most_bytes = most_bytes
        self._blocks: dict[bytes, Block] = {}
        self._children: dict[bytes, set[bytes]] = {}
        self._bytes = 0
        self._bad: Cache[bytes, None] = Cache(MAX_BAD)

    def get(self, block_id: bytes) -> Block | None:
        """A block of a side branch."""
        return self._blocks.get(block_id)

    def add(self, block: Block) -> None:
        """Keep a block; the oldest are evicted where there are too many."""
        if block.id in self._blocks:
            return
        self._blocks[block.id] = block
        self._children.setdefault(block.header.parent, set()).add(block.id)
        self._bytes += len(block.raw)
        while len(self._blocks) > self._most_blocks or self._bytes > self._most_bytes:
            self.remove_with_descendants(next(iter(self._blocks)))

    def remove(self, block_id: bytes) -> None:
        """Take one block out: it is on the best chain now."""
        block = self._blocks.pop(block_id, None)
        if block is None:
            return
        self._bytes -= len(block.raw)
        siblings = self._children.get(block.header.parent)
        if siblings is not None:
            siblings.discard(block_id)
            if not siblings:
                del self._children[block.header.parent]

    def remove_with_descendants(self, block_id: bytes) -> None:
        """Take a block out and everything that follows it here."""
        for found in list(self._descendants(block_id)):
            self.remove(found)

    def mark_bad(self, block_id: bytes) -> None:
        """Remember a block and all that follow it here as invalid."""
        for found in list(self._descendants(block_id)):
            self._bad.put(found, None)
            self.remove(found)

    def mark_bad_child(self, block_id: bytes) -> None:
        """Remember a block that follows a bad one."""
        self._bad.put(block_id, None)

    def is_bad(self, block_id: bytes) -> bool:
        """Whether a block is known to be invalid."""
        return block_id in self._bad

    def prune(self, slot: int) -> None:
        """Drop the blocks of slots before `slot`: their branches fork too deep to win."""
        old = [block.id for block in self._blocks.values() if block.header.slot < slot]
        for block_id in old:
            self.remove_with_descendants(block_id)

    def _descendants(self, block_id: bytes) -> Iterator[bytes]:
        """A block and all that follow it here."""
        stack = [block_id]
        while stack:
            current = stack.pop()
            yield current
            stack.extend(self._children.get(current, ()))

    def __contains__(self, block_id: bytes) -> bool:
        return block_id in self._blocks

    def __len__(self) -> int:
        return len(self._blocks)
