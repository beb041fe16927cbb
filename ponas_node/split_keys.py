"""The file in which a publisher keeps the keys of its sealed test splits, and where the encrypted splits are.

JSON: {"splits": [{"artifact": id, "file": name beside this file, "key": 64 hex digits}, ...]}, in the order in which
competitions use them. Whoever reads it can read the splits: it is for its owner only until the keys are shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from chain.artifact import artifact_id
from consensus.types import SealedSplit, key_hash
from ponas_node.files import write_whole

_MOST_FILE = 1 << 16
_FIELDS = {"artifact", "file", "key"}


class BadSplitKeys(ValueError):
    """A file of keys that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class SplitKey:
    """A sealed split: its artifact id, the file of the encrypted split, and its 32-byte key."""

    artifact: bytes
    file: Path
    key: bytes

    @property
    def public(self) -> SealedSplit:
        """What is published of it."""
        return SealedSplit(self.artifact, key_hash(self.key))

    def read(self, size: int) -> bytes:
        """The encrypted split, of `size` bytes; raises BadSplitKeys where the file holds anything else."""
        try:
            if self.file.stat().st_size != size:
                raise BadSplitKeys(f"{self.file} has not the {size} bytes of a sealed split of this dataset")
            data = self.file.read_bytes()
        except OSError as error:
            raise BadSplitKeys(f"the sealed split {self.file} cannot be read: {error.strerror}") from error
        if artifact_id(data) != self.artifact:
            raise BadSplitKeys(f"{self.file} is not the sealed split that the file of keys names")
        return data


def write_split_keys(path: Path, splits: list[SplitKey]) -> None:
    """Write the file, readable by its owner only. Raises OSError."""
    plain = [{"artifact": split.artifact.hex(), "file": split.file.name, "key": split.key.hex()} for split in splits]
    write_whole(path, (json.dumps({"splits": plain}, indent=2) + "\n").encode())


def read_split_keys(path: Path) -> tuple[SplitKey, ...]:
    """What a file holds, in its order. Raises BadSplitKeys."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE + 1)
        if len(data) > _MOST_FILE:
            raise BadSplitKeys(f"{path} is larger than a file of keys")
        raw = json.loads(data)
        found = tuple(_split(entry, path.parent) for entry in raw["splits"])
    except OSError as error:
        raise BadSplitKeys(f"{path} cannot be read: {error.strerror}") from error
    except BadSplitKeys:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadSplitKeys(f"{path} is no file of split keys as `ponas dataset seal` writes it") from error
    return found


def _split(entry: dict[str, str], folder: Path) -> SplitKey:
    if entry.keys() != _FIELDS or Path(entry["file"]).name != entry["file"]:
        raise ValueError("unknown fields, or a file that is not beside this one")
    split = SplitKey(bytes.fromhex(entry["artifact"]), folder / entry["file"], bytes.fromhex(entry["key"]))
    if len(split.artifact) != 32 or len(split.key) != 32:
        raise ValueError("ids and keys have 64 digits")
    return split
