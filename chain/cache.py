"""A bounded cache that forgets the oldest entry first."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Dictionary of at most `most` entries. First in, first out: cheaper on a hit than least-recently-used."""

    __slots__ = ("_entries", "_most", "get")

    def __init__(self, most: int) -> None:
        self._entries: dict[K, V] = {}
        self._most = most
        self.get = self._entries.get

    def put(self, key: K, value: V) -> None:
        """Remember `value`; forget the oldest entries beyond the limit."""
        self._entries[key] = value
        while len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]

    def drop(self, key: K) -> None:
        """Forget `key`."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
