"""Where a pool or a solo miner keeps what must survive a kill: a small ordered key-value map."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from chain.namespace import Namespace

Writes = list[tuple[bytes, bytes | None]]


class Storage(Protocol):
    """An ordered map of bytes. Every change is durable when the method returns; `write` is all or nothing."""

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key`."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove `key`, where it is there."""
        ...

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key starts with `prefix`, in order of the keys."""
        ...

    def write(self, batch: Writes) -> None:
        """Apply all changes together; a value of None deletes."""
        ...


class NamespaceStorage:
    """A namespace of the node's database as `Storage`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def get(self, key: bytes) -> bytes | None:
        """See `Storage`."""
        return self._namespace.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """See `Storage`."""
        self._namespace.put(key, value)

    def delete(self, key: bytes) -> None:
        """See `Storage`."""
        self._namespace.delete(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Storage`."""
        return self._namespace.iterate(prefix)

    def write(self, batch: Writes) -> None:
        """See `Storage`."""
        if not batch:
            return
        with self._namespace.batch() as changes:
            for key, value in batch:
                if value is None:
                    changes.delete(key)
                else:
                    changes.put(key, value)


class GroupStorage:
    """`Storage` over another one, that can write many changes as one.

    Inside `group` writes are only remembered, and reads see them; leaving it stores all of them in one batch. Where
    that fails they stay remembered, and the next write stores them first: nothing is ever stored that was built upon
    something that is not. What a group changed must not be acknowledged before the group was left without an error.
    """

    def __init__(self, below: Storage) -> None:
        self._below = below
        self._pending: dict[bytes, bytes | None] = {}
        self._grouped = False

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Collect writes, and store them together at the end. Raises what the storage below raises."""
        self._grouped = True
        try:
            yield
        finally:
            self._grouped = False
            self.write([])

    def get(self, key: bytes) -> bytes | None:
        """See `Storage`."""
        return self._pending[key] if key in self._pending else self._below.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """See `Storage`."""
        self.write([(key, value)])

    def delete(self, key: bytes) -> None:
        """See `Storage`."""
        self.write([(key, None)])

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Storage`."""
        if not self._pending:
            return self._below.iterate(prefix)
        found: dict[bytes, bytes | None] = dict(self._below.iterate(prefix))
        found.update(pair for pair in self._pending.items() if pair[0].startswith(prefix))
        return iter(sorted((key, value) for key, value in found.items() if value is not None))

    def write(self, batch: Writes) -> None:
        """See `Storage`."""
        if self._grouped:
            self._pending.update(batch)
        elif self._pending or batch:
            self._below.write(list((self._pending | dict(batch)).items()))
            self._pending.clear()


class MemoryStorage:
    """`Storage` for tests and simulations; `copy` is what a restart after a kill would find."""

    def __init__(self, items: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._items = dict(items)

    def copy(self) -> MemoryStorage:
        """An independent copy."""
        return MemoryStorage(self._items.items())

    def get(self, key: bytes) -> bytes | None:
        """See `Storage`."""
        return self._items.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """See `Storage`."""
        self._items[key] = value

    def delete(self, key: bytes) -> None:
        """See `Storage`."""
        self._items.pop(key, None)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Storage`."""
        return iter(sorted(pair for pair in self._items.items() if pair[0].startswith(prefix)))

    def write(self, batch: Writes) -> None:
        """See `Storage`."""
        for key, value in batch:
            if value is None:
                self._items.pop(key, None)
            else:
                self._items[key] = value
