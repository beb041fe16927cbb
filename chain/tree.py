"""Radix tree over the state, with a hash for every node. Source: protocol L11.

A key's place is SHA-256(key); its path are the 64 hexadecimal digits of the place, the first one at the root. An inner
node has a slot for each digit: nothing, the hash of another inner node, or a leaf. A leaf is place and SHA-256 of the
value; it sits in the highest slot that it has for itself. So the root depends on the content only, never on the order
in which it came to be, and there is an inner node wherever two leaves share a path, and at the root.

An inner node is encoded as 4 bytes of kinds, two bits a slot from the lowest on (0 nothing, 1 inner, 3 leaf), and what
its slots hold, in their order: 32 bytes for each bit that is set. It is stored by its path in ASCII, so an update
overwrites nodes and leaves nothing behind. Its hash is digest("ponas/state-node", encoding).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from chain.encoding import Record, Size
from chain.hashing import EMPTY, tag_bytes

_DIGITS = 64
_HASH = 32  # bytes of a hash or place, so of what an inner node's slot holds
_LEAF = 64  # bytes of a leaf
_KINDS = 4  # bytes at the head of a node
_MOST = _KINDS + 16 * _LEAF
_VOID = bytes(_KINDS)
_INNER = 1
_KIND = {0: 0, _HASH: _INNER, _LEAF: 3}  # by the size of what a slot holds
_LONE_LEAF = frozenset(3 << 2 * digit for digit in range(16))  # kinds of nodes that hold one leaf and nothing else
_SHIFT = {ord(f"{digit:x}"): 2 * digit for digit in range(16)}  # of a slot's bits, by the digit in ASCII
_AFTER = b"g"  # sorts after every digit
_TAGS = tuple(tag_bytes("ponas/state-node") + (_KINDS + 32 * units).to_bytes(8, "big") for units in range(33))


class NodeReader(Protocol):
    """Read access to nodes, by path."""

    def get(self, key: bytes) -> bytes | None:
        """Node at `key`, or None."""
        ...


class NodeStore(NodeReader, Protocol):
    """Where nodes are kept, by path."""

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set the nodes of `changes`; None removes one."""
        ...


class BrokenTree(Exception):
    """A node that another node refers to is not there: the store is damaged."""


def tree_root(nodes: NodeReader) -> bytes:
    """Root of the tree in `nodes`."""
    node = nodes.get(b"")
    return EMPTY if node is None else _hash(node)


def update(nodes: NodeStore, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Apply `changes` (None removes a key) and return the new root. Reads every touched node once."""
    if not changes:
        return tree_root(nodes)
    sha256 = hashlib.sha256
    entries: list[bytes] = []
    for key, value in changes.items():
        place = sha256(key).digest()
        entries.append(place if value is None else place + sha256(value).digest())
    entries.sort()
    batch = _Update(nodes, entries)
    root = batch.inner(b"", 0, len(entries), nodes.get(b"") or _VOID)
    nodes.write(batch.written)
    return root or EMPTY


class _Update:
    """One batch of changes on its way down the tree. `entries` in order: leaves to set, places of leaves to remove."""

    __slots__ = ("entries", "get", "paths", "written")

    def __init__(self, nodes: NodeReader, entries: Sequence[bytes]) -> None:
        self.get = nodes.get  # what is written is not read again: a node is visited once
        self.written: dict[bytes, bytes | None] = {}
        self.entries = entries
        self.paths = [_path(entry) for entry in entries]

    def inner(self, path: bytes, low: int, high: int, node: bytes) -> bytes:
        """Apply the entries from `low` to `high` to the inner node at `path`; returns what its slot then holds."""
        paths, depth = self.paths, len(path)
        kinds = int.from_bytes(node[:_KINDS], "big")
        while low < high:
            digit, branch = paths[low][depth], paths[low][: depth + 1]
            end = low + 1
            if end < high and paths[end][depth] == digit:
                end = bisect_left(paths, branch + _AFTER, end, high)
            shift = _SHIFT[digit]
            kind = kinds >> shift & 3
            start = _KINDS + 32 * (kinds & (1 << shift) - 1).bit_count()
            stop = start + 32 * kind.bit_count()
            if kind == _INNER:
                below = self.get(branch)
                if below is None:
                    raise BrokenTree(f"no node at depth {depth + 1}")
                new = self.inner(branch, low, end, below)
            else:
                new = self._leaves(branch, low, end, node[start:stop])
            if len(new) == stop - start:
                node = node[:start] + new + node[stop:]
            else:
                kinds += _KIND[len(new)] - kind << shift
                node = kinds.to_bytes(_KINDS, "big") + node[_KINDS:start] + new + node[stop:]
            low = end
        if kinds == 0:
            self.written[path] = None
            return b""
        if kinds in _LONE_LEAF and path:
            self.written[path] = None
            return node[_KINDS:]
        self.written[path] = node
        return hashlib.sha256(_TAGS[len(node) >> 5] + node).digest()  # what `_hash` does

    def _leaves(self, path: bytes, low: int, high: int, held: bytes) -> bytes:
        """Apply entries to the slot at `path` that held `held`, a leaf or nothing; returns what it then holds."""
        if high - low == 1:
            entry = self.entries[low]
            if not held or held[:_HASH] == entry[:_HASH]:
                return entry if len(entry) == _LEAF else b""
            if len(entry) == _HASH:
                return held
        leaves = {held[:_HASH]: held} if held else {}
        for entry in self.entries[low:high]:
            if len(entry) == _LEAF:
                leaves[entry[:_HASH]] = entry
            else:
                leaves.pop(entry, None)
        return self._build(path, sorted(leaves.values()))

    def _build(self, path: bytes, leaves: Sequence[bytes]) -> bytes:
        """Put `leaves`, in order, into a slot where nothing is stored; returns what it then holds."""
        if len(leaves) < 2:
            return leaves[0] if leaves else b""
        slots: dict[int, list[bytes]] = {}
        for leaf in leaves:
            slots.setdefault(_path(leaf)[len(path)], []).append(leaf)
        kinds, held = 0, [b""]
        for digit, below in slots.items():
            held.append(self._build(path + bytes([digit]), below))
            kinds |= _KIND[len(held[-1])] << _SHIFT[digit]
        held[0] = kinds.to_bytes(_KINDS, "big")
        node = self.written[path] = b"".join(held)
        return _hash(node)


def _path(entry: bytes) -> bytes:
    """The digits of a place, or of a leaf's place, in ASCII."""
    return entry[:_HASH].hex().encode()


def _hash(node: bytes) -> bytes:
    """digest("ponas/state-node", node), written out because it is hot."""
    return hashlib.sha256(_TAGS[len(node) >> 5] + node).digest()


def _held(node: bytes, digit: int) -> bytes | None:
    """What the slot of `digit`, in ASCII, holds; None where `node` is no encoding of a node."""
    kinds = int.from_bytes(node[:_KINDS], "big")
    if len(node) != _KINDS + 32 * kinds.bit_count():
        return None
    shift = _SHIFT[digit]
    start = _KINDS + 32 * (kinds & (1 << shift) - 1).bit_count()
    return node[start : start + 32 * (kinds >> shift & 3).bit_count()]


@dataclass(frozen=True, slots=True)
class Proof(Record):
    """Proof that a key holds a value, or holds none: the nodes on its path, from the root down."""

    nodes: Annotated[tuple[Annotated[bytes, Size(_KINDS, _MOST)], ...], Size(0, _DIGITS)]


def prove(nodes: NodeReader, key: bytes) -> Proof:
    """Proof of what the tree holds at `key`: its value, or that there is none."""
    path = _path(hashlib.sha256(key).digest())
    found: list[bytes] = []
    for depth, digit in enumerate(path):
        node = nodes.get(path[:depth])
        if node is None:
            if depth:
                raise BrokenTree(f"no node at depth {depth}")
            break
        found.append(node)
        held = _held(node, digit)
        if held is None:
            raise BrokenTree(f"the node at depth {depth} is malformed")
        if len(held) != _HASH:
            break
    return Proof(tuple(found))


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that the tree under `root` holds `value` at `key` (None: holds nothing there)."""
    place = hashlib.sha256(key).digest()
    held: bytes | None = root if root != EMPTY else b""
    for node, digit in zip(proof.nodes, _path(place), strict=False):
        if held is None or len(held) != _HASH or _hash(node) != held:
            return False
        held = _held(node, digit)
    if held is None or len(held) == _HASH:
        return False
    if value is None:
        return held[:_HASH] != place  # another leaf, or nothing, has the slot in which the key would be
    return held == place + hashlib.sha256(value).digest()
