"""The form of a data set: samples, labels and a fixed split, as one canonical run of bytes.

Encoding, little endian: magic, kind of sample (0 uint8, 1 int8), height, width, channels, classes, three sample counts,
length of the name, name; then for train, validation and test all samples and all labels (16 bits each). There is one
encoding of a data set and no compression, so its size follows from the header and is checked before memory is taken.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from consensus.spaces.base import InputShape

MAGIC = b"PND1"
HEADER = struct.Struct("<4sBHHHHIIIB")
KINDS: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.int8))
MAX_SIDE, MAX_CHANNELS, MAX_CLASSES, MAX_NAME = 1024, 1024, 1000, 64
SPLITS = ("train", "validation", "test")


class BadDataset(ValueError):
    """The bytes are no data set, or the arrays are inconsistent. The message is one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`samples`: uint8 or int8, shape (count, height, width, channels). `labels`: uint16, shape (count,)."""

    samples: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples to learn from (`train`), to choose by (`validation`) and to be judged by (`test`); or `BadDataset`."""

    name: str
    shape: InputShape
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        _check_header(self.name.encode("utf-8", "replace"), self.shape, [len(split) for split in self.splits])
        sample = (self.shape.height, self.shape.width, self.shape.channels)
        kind = self.train.samples.dtype
        for name, split in zip(SPLITS, self.splits, strict=True):
            if split.samples.dtype != kind or kind not in KINDS or split.labels.dtype != np.uint16:
                raise BadDataset(f"The {name} samples must be uint8 or int8, as the others, and the labels uint16.")
            if split.samples.shape != (len(split), *sample) or split.labels.shape != (len(split),):
                raise BadDataset(f"The {name} arrays do not have the shape that the data set states.")
            if int(split.labels.max()) >= self.shape.classes:
                raise BadDataset(f"A {name} label is not below the number of classes.")

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation, test."""
        return self.train, self.validation, self.test


def encode_dataset(dataset: Dataset) -> bytes:
    """The canonical bytes of a data set."""
    name, shape = dataset.name.encode(), dataset.shape
    header = HEADER.pack(
        MAGIC,
        KINDS.index(dataset.train.samples.dtype),
        shape.height,
        shape.width,
        shape.channels,
        shape.classes,
        *(len(split) for split in dataset.splits),
        len(name),
    )
    body = [
        part for split in dataset.splits for part in (split.samples.tobytes(), split.labels.astype("<u2").tobytes())
    ]
    return b"".join([header, name, *body])


def decode_dataset(data: bytes, max_bytes: int) -> Dataset:
    """The data set of canonical bytes; its arrays are read-only views of `data`. Raises `BadDataset`."""
    if len(data) > max_bytes:
        raise BadDataset(f"The data set has {len(data)} bytes; at most {max_bytes} are allowed.")
    if len(data) < HEADER.size:
        raise BadDataset("The data set is shorter than its header.")
    magic, kind, height, width, channels, classes, *counts, name_length = HEADER.unpack_from(data)
    if magic != MAGIC or kind >= len(KINDS):
        raise BadDataset("The header is not that of a data set of this version.")
    shape = InputShape(height, width, channels, classes)
    name = data[HEADER.size : HEADER.size + name_length]
    _check_header(name, shape, counts)
    sample_bytes = height * width * channels
    if len(data) != HEADER.size + name_length + sum(counts) * (sample_bytes + 2):
        raise BadDataset("The data set does not have the size that its header states.")
    position = HEADER.size + name_length
    splits = []
    for count in counts:
        samples = np.frombuffer(data, KINDS[kind], count * sample_bytes, position)
        position += count * sample_bytes
        labels = np.frombuffer(data, "<u2", count, position).astype(np.uint16, copy=False)
        position += count * 2
        splits.append(Split(samples.reshape(count, height, width, channels), labels))
    return Dataset(name.decode("ascii"), shape, *splits)


def split_by_hash(name: str, samples: np.ndarray, labels: np.ndarray, classes: int) -> Dataset:
    """Split by content: about 60 % train, 20 % validation, 20 % test, by the first byte of SHA-256 of each sample.

    Samples of equal content land in one split, so none leaks into the test. `samples` as in `Split`.
    """
    first = np.array([hashlib.sha256(sample.tobytes()).digest()[0] for sample in samples], dtype=np.int64)
    tenth = first * 10 // 256
    chosen = [tenth < 6, (tenth >= 6) & (tenth < 8), tenth >= 8]
    splits = [Split(np.ascontiguousarray(samples[mask]), labels[mask].astype(np.uint16)) for mask in chosen]
    height, width, channels = samples.shape[1:]
    return Dataset(name, InputShape(height, width, channels, classes), *splits)


def _check_header(name: bytes, shape: InputShape, counts: list[int]) -> None:
    if not 1 <= len(name) <= MAX_NAME or not all(33 <= byte < 127 for byte in name):
        raise BadDataset(f"The name of a data set is 1 to {MAX_NAME} visible ASCII characters.")
    if not (1 <= shape.height <= MAX_SIDE and 1 <= shape.width <= MAX_SIDE and 1 <= shape.channels <= MAX_CHANNELS):
        raise BadDataset(f"Samples of {shape.height} x {shape.width} x {shape.channels} are not supported.")
    if not 2 <= shape.classes <= MAX_CLASSES:
        raise BadDataset(f"A data set has 2 to {MAX_CLASSES} classes, not {shape.classes}.")
    if min(counts) < 1:
        raise BadDataset("Train, validation and test need at least one sample each.")
