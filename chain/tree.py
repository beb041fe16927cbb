"""Compact sparse Merkle tree over the state. Source: protocol L11.

A key's place is SHA-256(key), read from the first bit down. A leaf sits at the highest place where it is alone, so the
root depends on the content only, never on the order in which it came to be. Nodes are stored by their place, so an
update overwrites them and leaves nothing behind. A stored node is 65 bytes: a leaf is 0, place, hash of the value; an
inner node is 1, hash of the left child, hash of the right child.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from chain.encoding import Hash, Record, Size
from chain.hashing import EMPTY

_BITS = 256
_LEAF = 0
_INNER = 1
_LEAF_BYTE = b"\0"
_INNER_BYTE = b"\1"
_LENGTH = (32).to_bytes(8, "big")
_LEAF_TAG = bytes([len("ponas/state-leaf")]) + b"ponas/state-leaf" + _LENGTH
_INNER_TAG = bytes([len("ponas/state-node")]) + b"ponas/state-node" + _LENGTH


class NodeStore(Protocol):
    """Where nodes are kept, by place."""

    def get(self, key: bytes) -> bytes | None:
        """Node at `key`, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set the node at `key`."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove the node at `key`, where there is one."""
        ...


class NodeReader(Protocol):
    """Read access to nodes, by place."""

    def get(self, key: bytes) -> bytes | None:
        """Node at `key`, or None."""
        ...


class BrokenTree(Exception):
    """A node that another node refers to is not there: the store is damaged."""


def node_key(depth: int, prefix: int) -> bytes:
    """Storage key of the place reached by the `depth` bits of `prefix`."""
    return depth.to_bytes(2, "big") + prefix.to_bytes((depth + 7) >> 3, "big")


def _leaf_hash(node: bytes) -> bytes:
    """digest("ponas/state-leaf", place, value hash), written out because it is hot."""
    return hashlib.sha256(_LEAF_TAG + node[1:33] + _LENGTH + node[33:]).digest()


def _inner_hash(left: bytes, right: bytes) -> bytes:
    """digest("ponas/state-node", left, right), written out because it is hot."""
    return hashlib.sha256(_INNER_TAG + left + _LENGTH + right).digest()


def tree_root(nodes: NodeReader) -> bytes:
    """Root of the tree in `nodes`."""
    node = nodes.get(node_key(0, 0))
    if node is None:
        return EMPTY
    return _leaf_hash(node) if node[0] == _LEAF else _inner_hash(node[1:33], node[33:])


def update(nodes: NodeStore, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Apply `changes` (None removes a key) and return the new root. Visits every touched node once."""
    if not changes:
        return tree_root(nodes)
    items: list[tuple[int, bytes | None]] = []
    for key, value in changes.items():
        place = hashlib.sha256(key).digest()
        node = None if value is None else _LEAF_BYTE + place + hashlib.sha256(value).digest()
        items.append((int.from_bytes(place, "big"), node))
    items.sort(key=_place)
    root, leaf = _Update(nodes, items).run(0, 0, 0, len(items))
    if leaf is not None:
        nodes.put(node_key(0, 0), leaf)
    return root


def _place(item: tuple[int, bytes | None]) -> int:
    return item[0]


def _split(items: list[tuple[int, bytes | None]], depth: int, prefix: int, low: int, high: int) -> int:
    """Index in items[low:high], which share `depth` bits, of the first item whose next bit is 1."""
    return bisect_left(items, (prefix << 1 | 1) << (_BITS - 1 - depth), low, high, key=_place)


# What a place holds after an update: its hash, and the leaf where it is one. A leaf is not stored yet: the parent puts
# it here, or takes it further up where it is alone.
_Result = tuple[bytes, bytes | None]


class _Update:
    """One batch of sorted changes on its way down the tree."""

    __slots__ = ("items", "nodes")

    def __init__(self, nodes: NodeStore, items: list[tuple[int, bytes | None]]) -> None:
        self.nodes = nodes
        self.items = items

    def run(self, depth: int, prefix: int, low: int, high: int, old: bytes | None = None) -> _Result:
        """Apply items[low:high] to the place at `prefix`, whose hash was `old` where the parent knows it."""
        key = node_key(depth, prefix)
        node = None if old == EMPTY else self.nodes.get(key)
        if node is None and old is not None and old != EMPTY:
            raise BrokenTree(f"no node at depth {depth}")
        if node is not None and node[0] == _INNER:
            return self._inner(key, node, depth, prefix, low, high)
        leaves = [item for item in self.items[low:high] if item[1] is not None]
        if node is not None:
            place = int.from_bytes(node[1:33], "big")
            at = bisect_left(self.items, place, low, high, key=_place)
            if at == high or self.items[at][0] != place:
                leaves.insert(bisect_left(leaves, place, key=_place), (place, node))
            if not leaves:
                self.nodes.delete(key)
        return self._build(leaves, depth, prefix, 0, len(leaves))

    def _build(self, leaves: list[tuple[int, bytes | None]], depth: int, prefix: int, low: int, high: int) -> _Result:
        """Put leaves[low:high] where nothing is stored."""
        if high - low == 0:
            return EMPTY, None
        if high - low == 1:
            leaf = leaves[low][1] or b""
            return _leaf_hash(leaf), leaf
        middle = _split(leaves, depth, prefix, low, high)
        left = self._build(leaves, depth + 1, prefix << 1, low, middle)
        right = self._build(leaves, depth + 1, prefix << 1 | 1, middle, high)
        return self._join(node_key(depth, prefix), depth, prefix, left, right)

    def _inner(self, key: bytes, node: bytes, depth: int, prefix: int, low: int, high: int) -> _Result:
        middle = _split(self.items, depth, prefix, low, high)
        old_left, old_right = node[1:33], node[33:]
        left: _Result = (old_left, None)
        right: _Result = (old_right, None)
        if low < middle:
            left = self.run(depth + 1, prefix << 1, low, middle, old_left)
        if middle < high:
            right = self.run(depth + 1, prefix << 1 | 1, middle, high, old_right)
        if left[0] == EMPTY and right[0] == EMPTY:
            self.nodes.delete(key)
            return EMPTY, None
        # A child that just became empty may leave a leaf alone beside it; a child that was empty before has an
        # inner node beside it, unless that one changed and is known already.
        if left[0] == EMPTY and old_left != EMPTY and middle == high:
            right = (right[0], self._leaf_at(depth + 1, prefix << 1 | 1))
        elif right[0] == EMPTY and old_right != EMPTY and low == middle:
            left = (left[0], self._leaf_at(depth + 1, prefix << 1))
        if left[0] == EMPTY and right[1] is not None:
            self.nodes.delete(node_key(depth + 1, prefix << 1 | 1))
            self.nodes.delete(key)
            return right
        if right[0] == EMPTY and left[1] is not None:
            self.nodes.delete(node_key(depth + 1, prefix << 1))
            self.nodes.delete(key)
            return left
        return self._join(key, depth, prefix, left, right)

    def _join(self, key: bytes, depth: int, prefix: int, left: _Result, right: _Result) -> _Result:
        """Store the inner node of two children and the children that are leaves."""
        if left[1] is not None:
            self.nodes.put(node_key(depth + 1, prefix << 1), left[1])
        if right[1] is not None:
            self.nodes.put(node_key(depth + 1, prefix << 1 | 1), right[1])
        self.nodes.put(key, _INNER_BYTE + left[0] + right[0])
        return _inner_hash(left[0], right[0]), None

    def _leaf_at(self, depth: int, prefix: int) -> bytes | None:
        node = self.nodes.get(node_key(depth, prefix))
        if node is None:
            raise BrokenTree(f"no node at depth {depth}")
        return node if node[0] == _LEAF else None


@dataclass(frozen=True, slots=True)
class Proof(Record):
    """Proof that a key holds a value, or holds none. `siblings` from the root down; `leaf` is what the path ends in."""

    siblings: Annotated[tuple[Hash, ...], Size(0, _BITS)]
    leaf: Annotated[bytes, Size(0, 64)]  # place and hash of the value, or nothing where the path ends in the void


def prove(nodes: NodeReader, key: bytes) -> Proof:
    """Proof of what the tree holds at `key`: its value, or that there is none."""
    place = int.from_bytes(hashlib.sha256(key).digest(), "big")
    siblings: list[bytes] = []
    for depth in range(_BITS + 1):
        node = nodes.get(node_key(depth, place >> (_BITS - depth)))
        if node is None:
            return Proof(tuple(siblings), b"")
        if node[0] == _LEAF:
            return Proof(tuple(siblings), node[1:])
        right = place >> (_BITS - 1 - depth) & 1
        siblings.append(node[1:33] if right else node[33:])
    raise BrokenTree("a path has more than 256 inner nodes")


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that the tree under `root` holds `value` at `key` (None: holds nothing there)."""
    path = hashlib.sha256(key).digest()
    place = int.from_bytes(path, "big")
    depth = len(proof.siblings)
    if len(proof.leaf) not in (0, 64) or depth > _BITS:
        return False
    found = proof.leaf[:32] == path
    if value is None:
        # Another leaf shows that the key is absent only where it stands alone on the key's path.
        other = int.from_bytes(proof.leaf[:32], "big")
        if found or (proof.leaf and other >> (_BITS - depth) != place >> (_BITS - depth)):
            return False
    elif not found or proof.leaf[32:] != hashlib.sha256(value).digest():
        return False
    node = _leaf_hash(_LEAF_BYTE + proof.leaf) if proof.leaf else EMPTY
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        right = place >> (_BITS - 1 - level) & 1
        node = _inner_hash(sibling, node) if right else _inner_hash(node, sibling)
    return node == root
