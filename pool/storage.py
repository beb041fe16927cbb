"""Where a pool or a solo miner keeps what must survive a kill: a small ordered key-value map."""

from __future__ import annotations

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
