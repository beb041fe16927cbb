"""A bounded cache that forgets the oldest entry first."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Dictionary of at most `most` entries. First in, first out: cheaper on a hit than least-recently-used.

    The order stands beside the dictionary: to find the first entry of one that lost many others takes time with their
    number.
    """

    __slots__ = ("_entries", "_most", "_order", "get")

    def __init__(self, most: int) -> None:
        self._entries: dict[K, V] = {}
        self._order: deque[K] = deque()  # also keys that were dropped, until their turn comes
        self._most = most
        self.get = self._entries.get

    def put(self, key: K, value: V) -> None:
        """Remember `value`; forget the oldest entry where there are too many."""
        if key not in self._entries:
            self._order.append(key)
            if len(self._order) > self._most:
                self._entries.pop(self._order.popleft(), None)
        self._entries[key] = value

    def drop(self, key: K) -> None:
        """Forget `key`."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._order.clear()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
