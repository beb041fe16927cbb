"""Binary Merkle trees over ordered leaves (transactions of a block, seals of a commit). Source: protocol L4."""

from __future__ import annotations

import hashlib

from chain.hashing import EMPTY, digest, tag_bytes

_LENGTH = (32).to_bytes(8, "big")
_LEAF = tag_bytes("ponas/leaf")
_NODE = tag_bytes("ponas/node") + _LENGTH


def leaf_hash(leaf: bytes) -> bytes:
    """digest("ponas/leaf", leaf), written out because it is hot."""
    return hashlib.sha256(_LEAF + len(leaf).to_bytes(8, "big") + leaf).digest()


def parent_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return digest("ponas/node", left, right)


def merkle_root(leaves: list[bytes]) -> bytes:
    """Root over 32-byte leaf hashes; an odd node moves up unchanged; no leaves give 32 zero bytes."""
    level = [leaf_hash(leaf) for leaf in leaves]
    if not level:
        return EMPTY
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def merkle_path(leaves: list[bytes], index: int) -> tuple[bytes, ...]:
    """Siblings of leaf `index` from the bottom up; levels where it has none are left out."""
    level = [leaf_hash(leaf) for leaf in leaves]
    path: list[bytes] = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _parents(level)
        index //= 2
    return tuple(path)


def root_from_path(leaf: bytes, index: int, count: int, path: tuple[bytes, ...]) -> bytes | None:
    """Root that `path` gives for `leaf` at `index` of `count` leaves; None where the path does not fit."""
    if not 0 <= index < count:
        return None
    node = leaf_hash(leaf)
    position = 0
    while count > 1:
        if index ^ 1 < count:
            if position == len(path):
                return None
            pair = (path[position], node) if index & 1 else (node, path[position])
            node = parent_hash(*pair)
            position += 1
        index //= 2
        count = (count + 1) // 2
    return node if position == len(path) else None


def _parents(level: list[bytes]) -> list[bytes]:
    # parent_hash of 32-byte hashes, written out because it is hot
    sha256 = hashlib.sha256
    pairs = [sha256(_NODE + level[i] + _LENGTH + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]
