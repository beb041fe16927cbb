"""The latest rejections of every member, durable and bounded, so that a member can read why it was not paid."""

from __future__ import annotations

from collections import deque

from chain.errors import BadEncoding
from pool.records import RejectionRecord
from pool.storage import Storage

PREFIX = b"r"
PER_MEMBER = 32
MEMBERS = 4096


class RejectionLog:
    """The last `PER_MEMBER` rejections of the `MEMBERS` members that were rejected last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[bytes, deque[tuple[int, RejectionRecord]]] = {}
        found: list[tuple[bytes, int, RejectionRecord]] = []
        for key, value in storage.iterate(PREFIX):
            try:
                found.append((key[1:21], key[21], RejectionRecord.decode(value)))
            except (BadEncoding, IndexError):
                storage.delete(key)  # a courtesy to members: not worth refusing to start for
        for address, slot, record in sorted(found, key=lambda item: item[2].at):
            self._of(address).append((slot, record))

    def add(self, address: bytes, record: RejectionRecord) -> None:
        """Keep a rejection, in place of the member's oldest one where there are too many."""
        kept = self._of(address)
        slot = (kept[-1][0] + 1) % PER_MEMBER if kept else 0
        kept.append((slot, record))
        self._kept[address] = self._kept.pop(address)
        self._storage.put(PREFIX + address + bytes([slot]), record.encode())
        if len(self._kept) > MEMBERS:
            oldest = next(iter(self._kept))
            self._storage.write([(PREFIX + oldest + bytes([slot]), None) for slot, _ in self._kept.pop(oldest)])

    def of(self, address: bytes) -> list[RejectionRecord]:
        """A member's rejections, latest first."""
        return [record for _, record in reversed(self._kept.get(address, ()))]

    def _of(self, address: bytes) -> deque[tuple[int, RejectionRecord]]:
        return self._kept.setdefault(address, deque(maxlen=PER_MEMBER))
