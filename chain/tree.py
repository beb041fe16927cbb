"""Compact sparse Merkle tree over the state. Source: protocol L11.

A key's place is SHA-256(key), read from the first bit down. A leaf sits at the highest place where it is alone, so the
root depends on the content only, never on the order in which it came to be. Nodes are stored by their place, so an
update overwrites them and leaves nothing behind. A stored node is 65 bytes: a leaf is 0, place, hash of the value; an
inner node is 1, hash of the left child, hash of the right child.
"""

from __future__ import annotations

import hashlib
import operator
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from chain.encoding import Hash, Record, Size
from chain.hashing import EMPTY, tag_bytes

_BITS = 256
_LEAF = 0
_INNER = 1
_LEAF_BYTE = b"\0"
_INNER_BYTE = b"\1"
_DEPTHS = tuple(depth.to_bytes(2, "big") for depth in range(_BITS + 1))
_LENGTH = (32).to_bytes(8, "big")
_LEAF_TAG = tag_bytes("ponas/state-leaf") + _LENGTH
_INNER_TAG = tag_bytes("ponas/state-node") + _LENGTH


class NodeStore(Protocol):
    """Where nodes are kept, by place."""

    def get(self, key: bytes) -> bytes | None:
        """Node at `key`, or None."""
        ...

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set the nodes of `changes`; None removes one."""
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
    return _DEPTHS[depth] + prefix.to_bytes((depth + 7) >> 3, "big")


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
    items: list[tuple[bytes, bytes | None]] = []
    sha256 = hashlib.sha256
    for key, value in changes.items():
        place = sha256(key).digest()
        items.append((place, None if value is None else _LEAF_BYTE + place + sha256(value).digest()))
    items.sort(key=_place)
    batch = _Update(nodes, items)
    root, leaf = batch.run(0, 0, 0, len(items), None)
    if leaf is not None:
        batch.written[node_key(0, 0)] = leaf
    nodes.write(batch.written)
    return root


_place = operator.itemgetter(0)

# What a place holds after an update: its hash, and the leaf where it is one. A leaf is not stored yet: the parent puts
# it here, or takes it further up where it is alone.
_Result = tuple[bytes, bytes | None]

_VOID: _Result = (EMPTY, None)


class _Update:
    """One batch of changes, sorted by place, on its way down the tree."""

    __slots__ = ("get", "leaves", "places", "written")

    def __init__(self, nodes: NodeStore, items: list[tuple[bytes, bytes | None]]) -> None:
        self.get = nodes.get  # what is written is not read again: a place is visited once
        self.written: dict[bytes, bytes | None] = {}
        self.places = [int.from_bytes(place, "big") for place, _ in items]
        self.leaves = [leaf for _, leaf in items]

    def run(self, depth: int, prefix: int, low: int, high: int, old: bytes | None) -> _Result:
        """Apply the changes from `low` to `high` to the place at `prefix`.

        `old` is the hash that the parent has for it; None at the root.
        """
        if high - low == 1:
            return self._follow(depth, prefix, low, old)
        key = _DEPTHS[depth] + prefix.to_bytes((depth + 7) >> 3, "big")
        node = self.get(key) if old != EMPTY else None
        if node is None and old is not None and old != EMPTY:
            raise BrokenTree(f"no node at depth {depth}")
        if node is not None and node[0] == _INNER:
            middle = bisect_left(self.places, (prefix << 1 | 1) << (_BITS - 1 - depth), low, high)
            left = self.run(depth + 1, prefix << 1, low, middle, node[1:33]) if low < middle else None
            right = self.run(depth + 1, prefix << 1 | 1, middle, high, node[33:]) if middle < high else None
            if left is None or right is None or left[0] == EMPTY or right[0] == EMPTY:
                return self._join(key, node, depth, prefix, left, right)
            return self._store(key, depth, prefix, left, right)
        places, leaves = list[int](), list[bytes]()
        for at in range(low, high):
            leaf = self.leaves[at]
            if leaf is not None:
                places.append(self.places[at])
                leaves.append(leaf)
        if node is not None:
            place = int.from_bytes(node[1:33], "big")
            at = bisect_left(self.places, place, low, high)
            if at == high or self.places[at] != place:
                at = bisect_left(places, place)
                places.insert(at, place)
                leaves.insert(at, node)
            if not leaves:
                self.written[key] = None
        return self._build(places, leaves, depth, prefix, 0, len(leaves))

    def _follow(self, depth: int, prefix: int, at: int, old: bytes | None) -> _Result:
        """What `run` does, for a single change: down its path, and up again."""
        place, leaf = self.places[at], self.leaves[at]
        get, written, sha256 = self.get, self.written, hashlib.sha256
        path: list[tuple[bytes, bytes, bytes]] = []  # key, node, and the hash of the child that is not on the way
        key = _DEPTHS[depth] + prefix.to_bytes((depth + 7) >> 3, "big")
        while (node := get(key) if old != EMPTY else None) is not None and node[0] == _INNER:
            depth += 1
            prefix = place >> (_BITS - depth)
            old, other = (node[33:], node[1:33]) if prefix & 1 else (node[1:33], node[33:])
            path.append((key, node, other))
            key = _DEPTHS[depth] + prefix.to_bytes((depth + 7) >> 3, "big")
        if node is None and old is not None and old != EMPTY:
            raise BrokenTree(f"no node at depth {depth}")
        result, lone = self._replace(depth, prefix, key, node, place, leaf)
        while path:
            below, right = key, prefix & 1
            key, node, other = path.pop()
            depth -= 1
            prefix >>= 1
            if result == EMPTY or other == EMPTY:
                done = (result, lone)
                result, lone = self._join(key, node, depth, prefix, *((None, done) if right else (done, None)))
                continue
            if lone is not None:
                written[below] = lone
                lone = None
            if right:
                written[key] = _INNER_BYTE + other + result
                result = sha256(_INNER_TAG + other + _LENGTH + result).digest()
            else:
                written[key] = _INNER_BYTE + result + other
                result = sha256(_INNER_TAG + result + _LENGTH + other).digest()
        return result, lone

    def _replace(
        self, depth: int, prefix: int, key: bytes, node: bytes | None, place: int, leaf: bytes | None
    ) -> _Result:
        """Apply a single change to a place that holds the leaf `node`, or nothing."""
        if node is not None and (other := int.from_bytes(node[1:33], "big")) != place:
            if leaf is None:
                return _leaf_hash(node), node
            ordered = [(place, leaf), (other, node)] if place < other else [(other, node), (place, leaf)]
            places, leaves = [at for at, _ in ordered], [found for _, found in ordered]
            return self._build(places, leaves, depth, prefix, 0, 2)
        if leaf is not None:
            return _leaf_hash(leaf), leaf
        if node is not None:
            self.written[key] = None
        return _VOID

    def _build(self, places: list[int], leaves: list[bytes], depth: int, prefix: int, low: int, high: int) -> _Result:
        """Put leaves[low:high] where nothing is stored."""
        if high - low == 0:
            return _VOID
        if high - low == 1:
            return _leaf_hash(leaves[low]), leaves[low]
        middle = bisect_left(places, (prefix << 1 | 1) << (_BITS - 1 - depth), low, high)
        left = self._build(places, leaves, depth + 1, prefix << 1, low, middle)
        right = self._build(places, leaves, depth + 1, prefix << 1 | 1, middle, high)
        return self._store(node_key(depth, prefix), depth, prefix, left, right)

    def _join(
        self, key: bytes, node: bytes, depth: int, prefix: int, left: _Result | None, right: _Result | None
    ) -> _Result:
        """The inner node `node` after its children changed; None stands for a child that no change reached."""
        old_left, old_right = node[1:33], node[33:]
        new_left, new_right = left or (old_left, None), right or (old_right, None)
        if new_left[0] == EMPTY and new_right[0] == EMPTY:
            self.written[key] = None
            return _VOID
        # A child that just became empty may leave a leaf alone beside it; a child that was empty before has an
        # inner node beside it, unless that one changed and is known already.
        if right is None and new_left[0] == EMPTY != old_left:
            new_right = (old_right, self._leaf_at(depth + 1, prefix << 1 | 1))
        elif left is None and new_right[0] == EMPTY != old_right:
            new_left = (old_left, self._leaf_at(depth + 1, prefix << 1))
        if new_left[0] == EMPTY and new_right[1] is not None:
            self.written[node_key(depth + 1, prefix << 1 | 1)] = None
            self.written[key] = None
            return new_right
        if new_right[0] == EMPTY and new_left[1] is not None:
            self.written[node_key(depth + 1, prefix << 1)] = None
            self.written[key] = None
            return new_left
        return self._store(key, depth, prefix, new_left, new_right)

    def _store(self, key: bytes, depth: int, prefix: int, left: _Result, right: _Result) -> _Result:
        """Store the inner node of two children and the children that are leaves."""
        if left[1] is not None:
            self.written[node_key(depth + 1, prefix << 1)] = left[1]
        if right[1] is not None:
            self.written[node_key(depth + 1, prefix << 1 | 1)] = right[1]
        left_hash, right_hash = left[0], right[0]
        self.written[key] = _INNER_BYTE + left_hash + right_hash
        return hashlib.sha256(_INNER_TAG + left_hash + _LENGTH + right_hash).digest(), None

    def _leaf_at(self, depth: int, prefix: int) -> bytes | None:
        node = self.get(node_key(depth, prefix))
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
