"""What can go wrong with a database: one error type, and the guard that every access goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import plyvel


class StoreError(Exception):
    """The database cannot be used. `code` is stable; `remedy` says what the operator can do.

    Codes: missing, not_creatable, locked, corrupt, other_network, newer_schema, checkpoint, disk_full, io.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy


class Guard:
    """Turns what LevelDB reports into StoreError, and stops all writing after a write has failed.

    A failed write may have left a part of a record at the end of the log. Nothing may be appended behind it: opening
    the database again cuts it off. `on_failure` is called once, with the first failure of a read or a write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_failure: Callable[[StoreError], None] | None = None
        self._stopped: StoreError | None = None
        self._told = False

    def failed(self, error: Exception) -> StoreError:
        """The StoreError of what LevelDB raised."""
        return self.report(translate(self.path, error))

    def report(self, failure: StoreError) -> StoreError:
        """`failure`, after whoever listens was told of it."""
        if self.on_failure is not None and not self._told:
            self._told = True
            self.on_failure(failure)
        return failure

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around reads."""
        try:
            yield
        except plyvel.Error as error:
            raise self.failed(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around one write, which is atomic by itself."""
        if self._stopped is not None:
            raise self._stopped
        try:
            yield
        except plyvel.Error as error:
            self._stopped = self.failed(error)
            raise self._stopped from error


def corrupt(path: Path, what: str) -> StoreError:
    """The error for a database that contradicts itself."""
    remedy = (
        "`ponas db verify` lists the damage, `ponas db repair` saves what is sound; or move the directory away and "
        "start again: the node then syncs anew from its peers."
    )
    return StoreError("corrupt", f"The database in {path} is damaged: {what}.", remedy)


def other_network(path: Path, what: str) -> StoreError:
    """The error for a database of another network."""
    remedy = "Use another data directory, or the genesis file it was made with."
    return StoreError("other_network", f"The database in {path} {what}.", remedy)


def missing(path: Path) -> StoreError:
    """The error for a database that is not there."""
    return StoreError("missing", f"There is no database in {path}.", "Check the data directory, or create one.")


def locked(path: Path, by: str) -> StoreError:
    """The error for a database that is open elsewhere."""
    message = f"The database in {path} is in use {by}."
    return StoreError("locked", message, "Stop what uses it, or use another data directory.")


def not_creatable(path: Path, reason: str) -> StoreError:
    """The error for a directory that cannot be made."""
    message = f"The data directory {path} cannot be created: {reason}."
    return StoreError("not_creatable", message, "Choose another directory, or grant the right to write.")


def translate(path: Path, error: Exception) -> StoreError:
    """The StoreError that says what LevelDB reported."""
    text = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    if "lock" in text.lower() and "LOCK" in text:
        if "ermission denied" in text:
            remedy = "Grant the right to write there, or choose another directory."
            return StoreError("not_creatable", f"The data directory {path} cannot be written to.", remedy)
        return locked(path, "by another process")
    if isinstance(error, plyvel.CorruptionError) or "orruption" in text or "No such file" in text:
        return corrupt(path, text)
    if text.endswith(".ldb: Invalid argument"):  # what LevelDB says of a read beyond the end of a file
        return corrupt(path, f"{text.split(': ')[-2]} is shorter than it should be")
    if "does not exist" in text:
        return missing(path)
    if "No space left" in text or "quota exceeded" in text.lower():
        remedy = "Free some space on the disk and start again; what was written before is intact."
        return StoreError("disk_full", f"The disk of the database in {path} is full: {text}.", remedy)
    return StoreError("io", f"The database in {path} failed: {text}.", "Check the disk's free space and health.")
