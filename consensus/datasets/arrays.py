"""Arrays from files: NPZ (NumPy) and IDX (the format of MNIST). Sizes are checked before memory is taken; no pickle."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from consensus.datasets.convert import Raw
from consensus.datasets.format import SPLITS, BadDataset

SAMPLES, LABELS = ("x", "samples", "images", "data"), ("y", "labels", "targets")
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
WIDE = 8
"""Bytes of the widest number; an array of a file may be this much larger than the data set that it becomes."""


def read_npz(path: Path, max_bytes: int) -> Raw:
    """Arrays `x` and `y`; or `x_train`, `y_train` and so on for train, validation and test. Raises `BadDataset`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            pairs = _pairs(set(names))
            limit = max_bytes * WIDE
            arrays = [(_member(archive, names[x], limit), _member(archive, names[y], limit)) for x, y in pairs]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadDataset(f"{path.name} is not a readable NPZ file: {error}.") from error
    if len(arrays) == 1:
        return Raw(*arrays[0])
    shapes = {one.shape[1:] for one, _ in arrays} | {two.shape[1:] for _, two in arrays if two.ndim != 1}
    if len(shapes) != 1 or any(one.ndim < 2 or len(one) != len(two) for one, two in arrays):
        raise BadDataset("Train, validation and test must have samples of one shape, and a label for each.")
    samples, labels = (np.concatenate([pair[side] for pair in arrays]) for side in (0, 1))
    train, validation, test = (len(one) for one, _ in arrays)
    return Raw(samples, labels, (train, validation, test))


def _pairs(names: set[str]) -> list[tuple[str, str]]:
    """Names of the samples and labels: one pair, or one for each split."""
    for one in SAMPLES:
        for two in LABELS:
            if {one, two} <= names:
                return [(one, two)]
            split = [(f"{one}_{part}", f"{two}_{part}") for part in SPLITS]
            if {name for pair in split for name in pair} <= names:
                return split
    shown = ", ".join(sorted(names)[:10])
    raise BadDataset(f"The file needs arrays x and y, or x_train, y_train, x_validation, ...; it has: {shown[:200]}.")


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> np.ndarray:
    """One array. Its header says how large it is; only then is it read."""
    with archive.open(name) as file:
        try:
            version = npy.read_magic(file)
            if version == (1, 0):
                shape, fortran, kind = npy.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, kind = npy.read_array_header_2_0(file)
            else:
                raise BadDataset(f"The array {name[:64]} is of an unknown version.")
        except BadDataset:
            raise
        except (ValueError, TypeError, SyntaxError) as error:
            raise BadDataset(f"The array {name[:64]} cannot be read: {_first_line(error)}.") from error
        if kind.hasobject or kind.kind not in "iufbU":
            raise BadDataset(f"The array {name[:64]} holds {kind.name[:32]}: only numbers and texts are read.")
        size = math.prod(shape) * kind.itemsize
        if size > max_bytes:
            raise BadDataset(f"The array {name[:64]} has {size} bytes; at most {max_bytes} are read.")
        data = _read_exactly(file, size, name[:64])
    flat = np.frombuffer(data, kind)
    return flat.reshape(shape, order="F" if fortran else "C")


def is_idx(path: Path) -> bool:
    """Whether the file begins as IDX does (gzip allowed)."""
    try:
        with _open(path) as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in IDX_TYPES and 1 <= start[3] <= 4


def read_idx(path: Path, labels: Path | None, max_bytes: int) -> Raw:
    """Samples of `path`, labels of `labels`, or of the file beside it that is called as MNIST's are. `BadDataset`."""
    if labels is None:
        name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
        labels = path.with_name(name)
        if name == path.name or not labels.is_file():
            raise BadDataset("An IDX file holds no labels: name the file of the labels as well (--labels).")
    return Raw(_idx(path, max_bytes * WIDE), _idx(labels, max_bytes * WIDE))


def _idx(path: Path, max_bytes: int) -> np.ndarray:
    try:
        with _open(path) as file:
            start = _read_exactly(file, 4, path.name)
            if start[:2] != b"\0\0" or start[2] not in IDX_TYPES or not 1 <= start[3] <= 4:
                raise BadDataset(f"{path.name} is not an IDX file.")
            kind = np.dtype(IDX_TYPES[start[2]])
            head = _read_exactly(file, 4 * start[3], path.name)
            shape = tuple(int(side) for side in np.frombuffer(head, ">u4"))
            size = math.prod(shape) * kind.itemsize
            if size > max_bytes:
                raise BadDataset(f"{path.name} has {size} bytes of numbers; at most {max_bytes} are read.")
            data = _read_exactly(file, size, path.name)
            if file.read(1):
                raise BadDataset(f"{path.name} is longer than its header says.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadDataset(f"{path.name} cannot be unpacked: {error}.") from error
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_exactly(file: IO[bytes] | Any, size: int, name: str) -> bytes:
    """`size` bytes, piece by piece, so that a header that promises much takes no memory. Raises `BadDataset`."""
    out = io.BytesIO()
    while out.tell() < size:
        piece = file.read(min(1 << 20, size - out.tell()))
        if not piece:
            raise BadDataset(f"{name} ends early: it has fewer bytes than its header says.")
        out.write(piece)
    return out.getvalue()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["?"])[0][:120]
