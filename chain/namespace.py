"""Namespaces: small key-value maps of other components in a node's one database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chain.failures import Guard


class Namespace:
    """Keys under one prefix. Writes are synced unless told otherwise; a batch is atomic. All raise StoreError."""

    __slots__ = ("_db", "_guard")

    def __init__(self, db: Any, prefix: bytes, guard: Guard) -> None:
        self._db = db.prefixed_db(prefix)
        self._guard = guard

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        with self._guard.reading():
            value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def put(self, key: bytes, value: bytes, *, sync: bool = True) -> None:
        """Set `key`."""
        with self._guard.writing():
            self._db.put(key, value, sync=sync)

    def delete(self, key: bytes, *, sync: bool = True) -> None:
        """Remove `key`, where it is there."""
        with self._guard.writing():
            self._db.delete(key, sync=sync)

    def iterate(self, prefix: bytes = b"", *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key starts with `prefix`, in order of their whole keys."""
        with (
            self._guard.reading(),
            self._db.iterator(prefix=prefix, reverse=reverse, verify_checksums=True) as iterator,
        ):
            yield from iterator

    def batch(self, *, sync: bool = True) -> Batch:
        """Context manager that writes all its changes together on leaving, or none where an exception leaves it."""
        return Batch(self._db, sync, self._guard)


class Batch:
    """Changes of a namespace that are written together."""

    __slots__ = ("_batch", "_guard")

    def __init__(self, db: Any, sync: bool, guard: Guard) -> None:
        self._batch = db.write_batch(sync=sync)
        self._guard = guard

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` when the batch is written."""
        self._batch.put(key, value)

    def delete(self, key: bytes) -> None:
        """Remove `key` when the batch is written."""
        self._batch.delete(key)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with self._guard.writing():
                self._batch.write()
