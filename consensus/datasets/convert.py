"""From samples and labels of any source to a data set: checked, quantised, split. What a user brings is not trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from consensus.datasets.format import (
    KINDS,
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_SIDE,
    BadDataset,
    Dataset,
    Split,
    split_by_hash,
)
from consensus.datasets.tables import quantise_columns
from consensus.spaces.base import InputShape

MAX_BYTES = 1 << 28
"""Default limit for a data set and for any array that is read on the way to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """What a reader found. `samples`: numbers, (count, columns) for a table, (count, height, width[, channels]) for
    images. `labels`: (count,) integers, or texts. `parts`: sizes of train, validation and test, in this order, where
    the source says which samples are which."""

    samples: np.ndarray
    labels: np.ndarray
    parts: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A data set and what its classes were called in the source, by label."""

    dataset: Dataset
    classes: tuple[str, ...]


def convert(raw: Raw, name: str, image: tuple[int, int, int] | None = None, max_bytes: int = MAX_BYTES) -> Imported:
    """The data set of `raw`. Raises `BadDataset`.

    Images keep their values, uint8 or int8. Tables are quantised by counting (`tables`), among the training samples
    where the source tells them apart, else among all; but with `image` (height, width, channels) a row holds the pixels
    of one. Without parts the samples are split by content.
    """
    samples, labels = raw.samples, raw.labels
    if samples.ndim < 2 or not len(samples):
        raise BadDataset("There are no samples.")
    if labels.shape != (len(samples),):
        raise BadDataset(f"There are {len(samples)} samples, but labels of shape {labels.shape}.")
    size = int(np.prod(samples.shape[1:], dtype=object))
    if len(samples) * (size + 2) > max_bytes:
        raise BadDataset(f"The data set would have {len(samples) * (size + 2)} bytes; at most {max_bytes} are allowed.")
    classes, numbers = _classes(labels)
    samples = _integers(samples, image, raw.parts)
    if raw.parts is None:
        return Imported(split_by_hash(name, samples, numbers, len(classes)), classes)
    if sum(raw.parts) != len(samples):
        raise BadDataset("The sizes of the splits do not add up to the number of samples.")
    splits, start = [], 0
    for count in raw.parts:
        splits.append(Split(np.ascontiguousarray(samples[start : start + count]), numbers[start : start + count]))
        start += count
    height, width, channels = samples.shape[1:]
    return Imported(Dataset(name, InputShape(height, width, channels, len(classes)), *splits), classes)


def read_dataset(
    path: Path,
    name: str,
    labels: Path | None = None,
    label_column: str | None = None,
    image: tuple[int, int, int] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Imported:
    """The data set in the user's own file: NPZ, IDX (its labels in `labels` or beside it), CSV, or a folder of images.

    Raises `BadDataset`, `OSError`.
    """
    from consensus.datasets import arrays, folders, text

    kind = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    if path.is_dir():
        raw = folders.read_folder(path, max_bytes)
    elif kind == [".npz"]:
        raw = arrays.read_npz(path, max_bytes)
    elif kind == [".csv"]:
        raw = text.read_csv(path, label_column, max_bytes)
    elif arrays.is_idx(path):
        raw = arrays.read_idx(path, labels, max_bytes)
    else:
        raise BadDataset(f"{path.name} is of no known kind: .npz, .csv, IDX, or a folder with a folder per class.")
    return convert(raw, name, image, max_bytes)


def _classes(labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes' names in order, and every sample's number among them (uint16)."""
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
            raise BadDataset("A label is not a whole number.")
        if (np.abs(labels) >= 1 << 53).any():
            raise BadDataset("A label is out of range: numbers are from 0 to 65535.")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise BadDataset("Labels must be whole numbers or texts.")
    if labels.dtype.kind in "iu" and (int(labels.min()) < 0 or int(labels.max()) > 0xFFFF):
        raise BadDataset("A label is out of range: numbers are from 0 to 65535.")
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise BadDataset(f"All labels are {names[0]}: there must be two classes to tell apart.")
    if len(names) > MAX_CLASSES:
        raise BadDataset(
            f"There are {len(names)} classes; at most {MAX_CLASSES} are allowed. Is this the label column?"
        )
    return tuple(str(name) for name in names), numbers.reshape(-1).astype(np.uint16)


def _integers(
    samples: np.ndarray, image: tuple[int, int, int] | None, parts: tuple[int, int, int] | None
) -> np.ndarray:
    """(count, height, width, channels), uint8 or int8."""
    if samples.dtype.kind not in "iufb":
        raise BadDataset("Samples must be numbers.")
    if samples.ndim == 2 and image is None:
        if samples.shape[1] > MAX_CHANNELS:
            raise BadDataset(f"A table has at most {MAX_CHANNELS} columns; are the rows images? Then say their size.")
        fit = samples if parts is None else samples[: parts[0]]
        if not len(fit):
            raise BadDataset("There are no training samples.")
        return quantise_columns(samples, fit).reshape(len(samples), 1, 1, -1)
    if image is not None:
        if int(np.prod(samples.shape[1:], dtype=object)) != image[0] * image[1] * image[2]:
            raise BadDataset(
                f"A sample has {int(np.prod(samples.shape[1:]))} values, not {' x '.join(map(str, image))}."
            )
        samples = samples.reshape(len(samples), *image)
    if samples.ndim == 3:
        samples = samples[..., None]
    if samples.ndim != 4 or max(samples.shape[1:3]) > MAX_SIDE or samples.shape[3] > MAX_CHANNELS:
        raise BadDataset(f"Samples of shape {samples.shape[1:]} are not images: height x width, or with channels.")
    if samples.dtype in KINDS:
        return samples
    for kind in KINDS:
        with np.errstate(invalid="ignore"):
            whole = samples.astype(kind)
        if np.array_equal(whole, samples):
            return whole
    raise BadDataset("Pixels must be whole numbers from 0 to 255, or from -128 to 127: scale them first.")
