"""Randomness as a pure function of a seed: SHA-256 in counter mode, and what training draws from it.

Nothing else drives training: the initial weights, the order of the data and the rounding of gradients come from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

DITHER_PERIOD = 1 << 18
"""Length of the rounding table of a seed."""
SITE_STRIDE = 7919
"""Distance in the rounding table between the places of use within one step (a prime)."""


def stream(seed: bytes, label: bytes, count: int) -> bytes:
    """`count` bytes: SHA-256 of (tag, length of label, label, seed, counter) for counter 0, 1, ..., concatenated."""
    prefix = hashlib.sha256(b"ponas/stream" + bytes([len(label)]) + label + seed)
    blocks = []
    for counter in range(-(-count // 32)):
        block = prefix.copy()
        block.update(counter.to_bytes(8, "big"))
        blocks.append(block.digest())
    return b"".join(blocks)[:count]


def uniform16(seed: bytes, label: bytes, count: int, limit: int) -> np.ndarray:
    """`count` int64 values from -limit to limit: 16 bits each, scaled to the range; limit is at most 2^15."""
    raw = np.frombuffer(stream(seed, label, 2 * count), ">u2").astype(np.int64)
    return ((raw * (2 * limit + 1)) >> 16) - limit


@lru_cache(maxsize=4)
def permutation(seed: bytes, epoch: int, total: int) -> np.ndarray:
    """The order of the training samples in one pass over them: indices sorted by 64-bit keys, ties by index. int64."""
    keys = np.frombuffer(stream(seed, b"order" + epoch.to_bytes(8, "big"), 8 * total), ">u8")
    return np.argsort(keys, kind="stable").astype(np.int64)


def batch_indices(seed: bytes, total: int, batch: int, step: int) -> np.ndarray:
    """Training samples of a step: passes follow one another without a gap, so a batch may span two. int64, (batch,)."""
    positions = np.arange(step * batch, (step + 1) * batch)
    passes = positions // total
    out = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(passes):
        chosen = passes == epoch
        out[chosen] = permutation(seed, int(epoch), total)[positions[chosen] % total]
    return out


@lru_cache(maxsize=2)
def dither_table(seed: bytes) -> np.ndarray:
    """Thresholds for rounding gradients: int64 in [0, 256), shape (DITHER_PERIOD,)."""
    return np.frombuffer(stream(seed, b"dither", DITHER_PERIOD), np.uint8).astype(np.int64)


def dither_start(seed: bytes, step: int) -> int:
    """Where the rounding of a step begins in the table. Place of use s starts SITE_STRIDE * s further on."""
    word = stream(seed, b"start" + step.to_bytes(8, "big"), 4)
    return int.from_bytes(word, "big") % DITHER_PERIOD


def draw_samples(seed: bytes, total: int, count: int) -> np.ndarray:
    """`count` of `total` indices without replacement, sorted, int64; all of them where `count` >= `total`.

    A partial Fisher-Yates shuffle with rejection of the values that would bias the remainder, so each subset is equally
    likely. Raises ValueError for negative numbers.
    """
    if total < 0 or count < 0:
        raise ValueError("The number of samples cannot be negative.")
    if count >= total:
        return np.arange(total, dtype=np.int64)
    words = _words(seed)
    moved: dict[int, int] = {}
    drawn = np.empty(count, dtype=np.int64)
    for position in range(count):
        left = total - position
        limit = (1 << 64) - (1 << 64) % left
        word = next(words)
        while word >= limit:
            word = next(words)
        chosen = position + word % left
        drawn[position] = moved.get(chosen, chosen)
        moved[chosen] = moved.get(position, position)
    return np.sort(drawn)


def _words(seed: bytes) -> Iterator[int]:
    counter = 0
    while True:
        block = stream(seed, b"draw" + counter.to_bytes(8, "big"), 32)
        yield from (int.from_bytes(block[start : start + 8], "big") for start in range(0, 32, 8))
        counter += 1
