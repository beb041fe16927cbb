"""SHA-256 with domain separation. Source: protocol L2."""

from __future__ import annotations

import functools
import hashlib

EMPTY = bytes(32)


def digest(tag: str, *parts: bytes) -> bytes:
    """32-byte hash of `parts` under `tag`. Every part is length-prefixed, so no two inputs collide by joining."""
    data = tag_bytes(tag)
    for part in parts:
        data += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(data).digest()


@functools.cache
def tag_bytes(tag: str) -> bytes:
    """What `digest` hashes before the parts."""
    return bytes([len(tag)]) + tag.encode()
