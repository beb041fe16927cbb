"""Images from a seed: as many fresh samples as wanted, of a difficulty that can be set, from integers only.

Each class is a glyph: a pattern of 5 x 5 cells of 2 x 2 pixels. A sample shows its class's glyph somewhere on 16 x 16
pixels, with some cells flipped, some contrast, a stranger's fragment beside it, and noise. Sample i of a seed is a pure
function of (seed, i, difficulty, number of classes): everything is drawn by splitmix64 (Steele et al., OOPSLA 2014) of
a counter, in 64-bit integers that wrap around.
"""

from __future__ import annotations

import hashlib

import numpy as np

from consensus.datasets.format import BadDataset, Dataset, Split
from consensus.spaces.base import InputShape

SIZE = 16
CELLS, SCALE = 5, 2
GLYPH = CELLS * SCALE
SHIFTS = SIZE - GLYPH + 1
MAX_DIFFICULTY = 100
CHUNK = 2048
DRAWS = 1024
"""Counter values that a sample has to itself."""


def procedural_split(seed: bytes, start: int, count: int, difficulty: int = 65, classes: int = 10) -> Split:
    """Samples `start` to `start + count` of a seed: uint8 (count, 16, 16, 1). Difficulty 0 to 100; raises `BadDataset`.

    The glyphs depend on the seed and the number of classes only, not on the difficulty.
    """
    if not 0 <= difficulty <= MAX_DIFFICULTY:
        raise BadDataset(f"The difficulty is from 0 to {MAX_DIFFICULTY}, not {difficulty}.")
    if not 2 <= classes <= 256 or start < 0 or count < 1 or start + count > 1 << 48:
        raise BadDataset("A procedural data set has 2 to 256 classes, and at least one sample.")
    key = np.uint64(int.from_bytes(hashlib.sha256(b"ponas/procedural" + seed).digest()[:8], "big"))
    glyphs = _glyphs(key, classes)
    parts = [
        _samples(key, glyphs, np.arange(first, min(first + CHUNK, start + count), dtype=np.uint64), difficulty)
        for first in range(start, start + count, CHUNK)
    ]
    return Split(np.concatenate([part.samples for part in parts]), np.concatenate([part.labels for part in parts]))


def procedural(
    seed: bytes,
    train: int = 8192,
    validation: int = 1024,
    test: int = 2048,
    difficulty: int = 65,
    classes: int = 10,
    name: str = "",
) -> Dataset:
    """A data set of fresh samples: the first `train`, then `validation`, then `test`. Raises `BadDataset`."""
    start, splits = 0, []
    for count in (train, validation, test):
        splits.append(procedural_split(seed, start, count, difficulty, classes))
        start += count
    name = name or f"procedural-{difficulty}-{hashlib.sha256(seed).hexdigest()[:8]}"
    return Dataset(name, InputShape(SIZE, SIZE, 1, classes), *splits)


def _mix(counter: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, on uint64."""
    word = counter * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)))


def _glyphs(key: np.uint64, classes: int) -> np.ndarray:
    """(classes, 5, 5) of 0 and 1: random patterns, 13 of 25 cells set, as the order of random words says."""
    words = _mix(_mix(np.arange(classes, dtype=np.uint64)[:, None] ^ key) + np.arange(CELLS * CELLS, dtype=np.uint64))
    ranks = np.argsort(np.argsort(words, axis=1, kind="stable"), axis=1, kind="stable")
    return (ranks <= CELLS * CELLS // 2).astype(np.int64).reshape(classes, CELLS, CELLS)


def _samples(key: np.uint64, glyphs: np.ndarray, indices: np.ndarray, difficulty: int) -> Split:
    count, classes = len(indices), len(glyphs)
    base = _mix(indices + np.uint64(1)) ^ ~key

    def draw(place: int, shape: tuple[int, ...], below: int) -> np.ndarray:
        """Integers from 0 to below - 1 for every sample, from counter values `place` on; int64 (count, *shape)."""
        offsets = np.arange(place, place + int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
        words = _mix(_mix(base[:, None] * np.uint64(DRAWS) + offsets)) >> np.uint64(40)
        return ((words.astype(np.int64) * below) >> 24).reshape(count, *shape)

    labels = draw(0, (), classes)
    strangers = (labels + 1 + draw(1, (), classes - 1)) % classes
    contrast = 64 + draw(2, (), 96)
    flips = draw(16, (CELLS, CELLS), 1000) < 3 * difficulty // 2
    shown = np.where(flips, 1 - glyphs[labels], glyphs[labels])
    canvas = np.zeros((count, SIZE, SIZE), dtype=np.int64)
    # Another glyph's fragment first: fainter, and what lies under the sample's own glyph is covered.
    faint = (contrast * difficulty) // 200
    _put(canvas, glyphs[strangers], draw(4, (2,), SHIFTS), faint)
    _put(canvas, shown, draw(8, (2,), SHIFTS), contrast)
    width = 2 + 3 * difficulty // 2
    noise = draw(64, (SIZE, SIZE), width) + draw(64 + SIZE * SIZE, (SIZE, SIZE), width)
    pixels = np.clip(canvas + 32 + noise - width // 2, 0, 255).astype(np.uint8)
    return Split(pixels.reshape(count, SIZE, SIZE, 1), labels.astype(np.uint16))


def _put(canvas: np.ndarray, patterns: np.ndarray, shift: np.ndarray, contrast: np.ndarray) -> None:
    """Write every sample's pattern at its place, times its contrast, over what is there."""
    large = patterns.repeat(SCALE, axis=1).repeat(SCALE, axis=2) * contrast[:, None, None]
    rows = shift[:, 0, None] + np.arange(GLYPH)
    columns = shift[:, 1, None] + np.arange(GLYPH)
    canvas[np.arange(len(canvas))[:, None, None], rows[:, :, None], columns[:, None, :]] = large
