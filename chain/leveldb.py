"""Opening a LevelDB so that it is safe: one user at a time, and damage is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plyvel

from chain.failures import StoreError, locked, missing, not_creatable, translate

_WRITE_BUFFER = 64 << 20  # bytes of the log before a table is made of it; with a quarter, twice as much is compacted

# Databases open in this process. LevelDB must not see a second attempt: in refusing it, it closes the lock file, and
# with that the operating system drops the lock that keeps other processes out.
_HELD: set[Path] = set()


def check_not_held(path: Path) -> None:
    """Raise StoreError where this process has the database in `path` open."""
    if path.resolve() in _HELD:
        raise locked(path, "by this process")


def open_database(path: Path, create: bool) -> Any:
    """The LevelDB in `path`, which this process then holds until `release`. Raises StoreError."""
    check_not_held(path)
    if path.exists() and not path.is_dir():
        raise StoreError("not_creatable", f"{path} is not a directory.", "Choose another data directory.")
    if not path.exists():
        if not create:
            raise missing(path)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise not_creatable(path, error.strerror or str(error)) from error
    try:
        # Without paranoid checks LevelDB would leave out a damaged record of its log and go on with the next one.
        options = {"paranoid_checks": True, "bloom_filter_bits": 10, "write_buffer_size": _WRITE_BUFFER}
        database = plyvel.DB(str(path), create_if_missing=create, **options)
    except plyvel.Error as error:
        raise translate(path, error) from error
    _HELD.add(path)
    return database


def compact(database: Any) -> None:
    """Let LevelDB rewrite its files without what was deleted or overwritten."""
    database.compact_range(start=b"", stop=b"\xff")  # no key begins with 0xff; without limits plyvel compacts nothing


def release(path: Path) -> None:
    """The database in `path` was closed."""
    _HELD.discard(path)
