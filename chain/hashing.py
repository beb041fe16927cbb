"""SHA-256 with domain separation. Source: protocol L2."""

from __future__ import annotations

import hashlib

EMPTY = bytes(32)


def digest(tag: str, *parts: bytes) -> bytes:
    """32-byte hash of `parts` under `tag`. Every part is length-prefixed, so no two inputs collide by joining."""
    hasher = hashlib.sha256(bytes([len(tag)]) + tag.encode())
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()
