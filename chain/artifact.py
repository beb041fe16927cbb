"""Content addressing of large data (models, datasets). Source: protocol A1."""

from __future__ import annotations

import hashlib

CHUNK = 65536
TAG = b"ponas/artifact"


def chunk_hashes(data: bytes) -> list[bytes]:
    """SHA-256 of every 64 KiB chunk of `data`; one hash of the empty chunk for no data."""
    return [hashlib.sha256(data[i : i + CHUNK]).digest() for i in range(0, max(len(data), 1), CHUNK)]


def id_of_chunks(size: int, hashes: list[bytes]) -> bytes:
    """Artifact id from its size in bytes and its chunk hashes, so that chunks can be checked one by one."""
    return hashlib.sha256(TAG + size.to_bytes(8, "big") + b"".join(hashes)).digest()


def artifact_id(data: bytes) -> bytes:
    """32-byte content id of `data`."""
    return id_of_chunks(len(data), chunk_hashes(data))


def chunk_count(size: int) -> int:
    """How many chunks an artifact of `size` bytes has."""
    return max(1, -(-size // CHUNK))
