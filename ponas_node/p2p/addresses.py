"""Addresses of other nodes: a bounded table. No I/O, no clock, randomness as an argument."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

_MOST = 1024
_PER_SOURCE = 64
_FIRST_REST = 10.0
_MOST_REST = 3600.0
_GIVE_UP = 8


@dataclass(slots=True)
class _Entry:
    source: bytes
    not_before: float = 0.0
    failures: int = 0


class AddressBook:
    """What peers said about where nodes listen. One peer can fill only its own share of the table."""

    def __init__(self, source: random.Random) -> None:
        self._entries: dict[str, _Entry] = {}
        self._per_source: dict[bytes, int] = {}
        self._random = source

    def add(self, address: str, source: bytes) -> bool:
        """Remember an address that peer `source` told; returns whether there was room."""
        if address in self._entries:
            return True
        if self._per_source.get(source, 0) >= _PER_SOURCE:
            return False
        if len(self._entries) >= _MOST:
            self.drop(self._random.choice(list(self._entries)))
        self._entries[address] = _Entry(source)
        self._per_source[source] = self._per_source.get(source, 0) + 1
        return True

    def drop(self, address: str) -> None:
        """Forget an address."""
        entry = self._entries.pop(address, None)
        if entry is None:
            return
        self._per_source[entry.source] -= 1
        if not self._per_source[entry.source]:
            del self._per_source[entry.source]

    def pick(self, now: float, exclude: Collection[str]) -> str | None:
        """A random address that may be dialled now."""
        fit = [name for name, entry in self._entries.items() if entry.not_before <= now and name not in exclude]
        return self._random.choice(fit) if fit else None

    def failed(self, address: str, now: float) -> None:
        """Dialling did not work: wait longer each time, and forget it in the end."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.failures += 1
        entry.not_before = now + min(_MOST_REST, _FIRST_REST * 2.0**entry.failures)
        if entry.failures >= _GIVE_UP:
            self.drop(address)

    def worked(self, address: str) -> None:
        """Dialling worked."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.failures, entry.not_before = 0, 0.0

    def sample(self, most: int) -> list[str]:
        """Some addresses that are not known to fail, to tell others."""
        good = [name for name, entry in self._entries.items() if not entry.failures]
        return self._random.sample(good, min(most, len(good)))

    def __len__(self) -> int:
        return len(self._entries)
