"""A Merkle tree over an append-only log: roots of every size, short proofs of inclusion and of consistency.

The tree is that of protocol L4 and of RFC 9162: complete subtrees never change, so their hashes are stored once, when
the entry that completes them is appended. Hashes of single entries are computed from the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chain.hashing import EMPTY
from chain.merkle import leaf_hash, parent_hash
from pool.errors import PoolFault
from pool.storage import Storage, Writes

PREFIX = b"N"


class History:
    """Hashes of all complete subtrees. `entry` gives the bytes of an entry that is part of the tree."""

    def __init__(self, storage: Storage, entry: Callable[[int], bytes]) -> None:
        self._storage = storage
        self._entry = entry

    def edge(self, size: int) -> Peaks:
        """What it takes to append to the tree over the first `size` entries."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return Peaks(size, [self._node(level, (size >> level) - 1) for level in levels])

    def root(self, size: int) -> bytes:
        """Root over the first `size` entries; 32 zero bytes where there are none."""
        return self._subtree(0, size) if size else EMPTY

    def inclusion(self, number: int, size: int) -> tuple[bytes, ...]:
        """Proof that entry `number` is in the tree over `size` entries, for `chain.merkle.root_from_path`."""
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _left(high - low)
            if number < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return tuple(reversed(path))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Proof that the tree over `first` entries (one at least) is the beginning of that over `second`."""
        path: list[bytes] = []
        low, high, whole = 0, second, True
        while first != high:
            middle = low + _left(high - low)
            if first <= middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low, whole = middle, False
        if not whole:
            path.append(self._subtree(low, high))
        return tuple(reversed(path))

    def _subtree(self, low: int, high: int) -> bytes:
        count = high - low
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._node(level, low >> level)
        middle = low + _left(count)
        return parent_hash(self._subtree(low, middle), self._subtree(middle, high))

    def _node(self, level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hash(self._entry(index))
        found = self._storage.get(_key(level, index))
        if found is None:
            raise PoolFault(f"the tree over the pool's ledger has no node {index} at level {level}")
        return found


class Peaks:
    """The tree's right edge while it grows: its complete subtrees only, the largest first."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> Peaks:
        """An independent copy."""
        return Peaks(self.size, self._peaks)

    def push(self, entry: bytes) -> Writes:
        """The next entry. Answers what a `History` must find stored then: the subtrees that it completes."""
        node, level, completed = leaf_hash(entry), 0, Writes()
        while self.size >> level & 1:
            node, level = parent_hash(self._peaks.pop(), node), level + 1
            completed.append((_key(level, self.size >> level), node))
        self._peaks.append(node)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Root over the entries so far."""
        if not self._peaks:
            return EMPTY
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = parent_hash(peak, node)
        return node


def consistent(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` proves that the log with `second` entries begins with the one with `first`. Source: RFC 9162."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    rest = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not rest:
        return False
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = rest[0]
    for node in rest[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = parent_hash(node, old), parent_hash(node, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = parent_hash(new, node)
        position, last = position >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _left(count: int) -> int:
    """Leaves of the left subtree: the largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _key(level: int, index: int) -> bytes:
    return PREFIX + bytes([level]) + index.to_bytes(8, "big")
