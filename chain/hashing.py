"""SHA-256 with domain separation. Source: protocol L2."""

from __future__ import annotations

import functools
import hashlib

EMPTY = bytes(32)


def digest(tag: str, *parts: bytes) -> bytes:
    """32-byte hash of `parts` under `tag`. Every part is length-prefixed, so no two inputs collide by joining."""
    joined = [_tag(tag)]
    for part in parts:
        joined += (len(part).to_bytes(8, "big"), part)
    return hashlib.sha256(b"".join(joined)).digest()


@functools.cache
def _tag(tag: str) -> bytes:
    return bytes([len(tag)]) + tag.encode()
