"""The files that `ponas db` writes: frames behind a head, closed by a digest.

| bytes | what |
|---|---|
| 8 | magic: `ponas` CR LF 0x1a |
| 4 | version of this format, big-endian like all numbers here: 1 |
| 8 | kind of content, filled up with zeros: `chain` or `state` |
| 32 | network id |
| 4 + n | a frame: its length n, 1 or more, and n bytes; any number of frames |
| 4 | zero: no more frames |
| 8 | number of frames |
| 32 | SHA-256 of everything before |

Nothing may follow. A reader checks the whole file before it hands out the first frame.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAGIC = b"ponas\r\n\x1a"
VERSION = 1
MAX_FRAME = 8 << 20
_HEAD = len(MAGIC) + 4 + 8 + 32
_TAIL = 8 + 32


class BadFile(ValueError):
    """A file that is not what it should be. The message says what is wrong with it and what to do."""


class FrameWriter:
    """Writes one file; see `writing`."""

    def __init__(self, file: BinaryIO, kind: bytes, network: bytes) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.frames = 0
        self._put(MAGIC + VERSION.to_bytes(4, "big") + kind.ljust(8, b"\0") + network)

    def write(self, frame: bytes) -> None:
        """Append a frame."""
        if not 1 <= len(frame) <= MAX_FRAME:
            raise ValueError(f"a frame has 1 to {MAX_FRAME} bytes")
        self._put(len(frame).to_bytes(4, "big") + frame)
        self.frames += 1

    def close(self) -> None:
        """Write the end of the file."""
        self._put(bytes(4) + self.frames.to_bytes(8, "big"))
        self._file.write(self._hash.digest())

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)


@contextmanager
def writing(path: Path, kind: bytes, network: bytes) -> Iterator[FrameWriter]:
    """Write the file `path`: it appears whole and on disk, or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            writer = FrameWriter(file, kind, network)
            yield writer
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to disk, so that what was renamed into it is there after a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FrameFile:
    """A file that was checked from end to end. Raises BadFile for a wrong one, OSError for one that cannot be read."""

    def __init__(self, path: Path, kind: bytes, network: bytes) -> None:
        self.path = path
        with path.open("rb") as file:
            _check_head(path, file.read(_HEAD), kind, network)
            self.frames = self._check_body(file)

    def __iter__(self) -> Iterator[bytes]:
        """All frames, read anew each time."""
        with self.path.open("rb") as file:
            file.seek(_HEAD)
            while size := int.from_bytes(file.read(4), "big"):
                yield self._frame(file, size)

    def _check_body(self, file: BinaryIO) -> int:
        file.seek(0)
        seen = hashlib.sha256(file.read(_HEAD))
        frames = 0
        while True:
            length = file.read(4)
            if len(length) < 4:
                raise self._cut_off(frames)
            seen.update(length)
            size = int.from_bytes(length, "big")
            if not size:
                break
            seen.update(self._frame(file, size))
            frames += 1
        tail = file.read(_TAIL + 1)
        if len(tail) < _TAIL:
            raise self._cut_off(frames)
        seen.update(tail[:8])
        if len(tail) > _TAIL or tail[8:] != seen.digest() or int.from_bytes(tail[:8], "big") != frames:
            raise BadFile(f"{self.path} is damaged: its digest does not fit its content. Get it again.")
        return frames

    def _frame(self, file: BinaryIO, size: int) -> bytes:
        if size > MAX_FRAME:
            raise BadFile(f"{self.path} is damaged: it names an item of {size} bytes. Get it again.")
        frame = file.read(size)
        if len(frame) < size:
            raise BadFile(f"{self.path} is damaged: it ends within an item. Get it again.")
        return frame

    def _cut_off(self, frames: int) -> BadFile:
        return BadFile(f"{self.path} is cut off after {frames} items. Get it again.")


def _check_head(path: Path, head: bytes, kind: bytes, network: bytes) -> None:
    name = kind.decode()
    if len(head) < _HEAD or head[:8] != MAGIC:
        raise BadFile(f"{path} was not written by `ponas db`: choose another file.")
    version = int.from_bytes(head[8:12], "big")
    if version != VERSION:
        raise BadFile(f"{path} has format {version}, this program reads format {VERSION}: install a newer version.")
    if head[12:20] != kind.ljust(8, b"\0"):
        raise BadFile(f"{path} holds no {name} but {head[12:20].rstrip(bytes(1))!r}: choose another file.")
    if head[20:] != network:
        raise BadFile(
            f"{path} belongs to network {head[20:].hex()[:16]}, not {network.hex()[:16]}: choose another file, or the "
            "genesis file of that network."
        )
