"""The pool's append-only ledger: numbered entries, from which everything that is owed can be recomputed."""

from __future__ import annotations

from collections.abc import Iterator

from chain.errors import BadEncoding
from pool.errors import PoolFault
from pool.records import KIND, KINDS, Entry
from pool.storage import Storage, Writes

PREFIX = b"L"
_MOST = 1 << 24


class Ledger:
    """Entries in order. An entry and what belongs to it go in one synced batch."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._next = 0

    def __len__(self) -> int:
        return self._next

    def replay(self) -> Iterator[Entry]:
        """All entries. Raises PoolFault where one is missing or damaged."""
        self._next = 0
        for key, value in self._storage.iterate(PREFIX):
            if key != _key(self._next):
                raise PoolFault(f"the pool's ledger has no entry {self._next}")
            self._next += 1
            yield _decode(value, self._next - 1)

    def append(self, entry: Entry, more: Writes | None = None) -> None:
        """Write an entry, and the changes that belong to it, durably and at once."""
        data = bytes([KIND[type(entry)]]) + entry.encode()
        self._storage.write([(_key(self._next), data), *(more or [])])
        self._next += 1


def _key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8, "big")


def _decode(value: bytes, number: int) -> Entry:
    try:
        return KINDS[value[0]].decode(value[1:], _MOST)
    except (BadEncoding, IndexError) as error:
        raise PoolFault(f"entry {number} of the pool's ledger is damaged: {error}") from error
