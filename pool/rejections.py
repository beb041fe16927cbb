"""The latest rejections of every member, durable and bounded, so that a member can read why it was not paid."""

from __future__ import annotations

from collections import deque

from chain.errors import BadEncoding
from pool.records import RejectionRecord
from pool.storage import Storage, Writes

PREFIX = b"r"
PER_MEMBER = 32
MEMBERS = 4096


class RejectionLog:
    """The last `PER_MEMBER` rejections of the `MEMBERS` members that were rejected last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[bytes, deque[RejectionRecord]] = {}
        found: list[tuple[bytes, RejectionRecord]] = []
        for key, value in storage.iterate(PREFIX):
            try:
                found.append((key[1:21], RejectionRecord.decode(value)))
            except BadEncoding:
                storage.delete(key)  # a courtesy to members: not worth refusing to start for
        for address, record in sorted(found, key=lambda item: (item[1].at, item[1].number)):
            self._of(address).append(record)

    def add(self, address: bytes, at: int, share: bytes, genotype: bytes, code: str, reason: str) -> None:
        """Keep a rejection, in place of the member's oldest one where there are too many."""
        kept = self._of(address)
        record = RejectionRecord(kept[-1].number + 1 if kept else 0, at, share, genotype, code, reason)
        kept.append(record)
        self._kept[address] = self._kept.pop(address)
        changes: Writes = [(_key(address, record), record.encode())]
        if len(self._kept) > MEMBERS:
            oldest = next(iter(self._kept))
            changes += [(_key(oldest, old), None) for old in self._kept.pop(oldest)]
        self._storage.write(changes)

    def of(self, address: bytes) -> list[RejectionRecord]:
        """A member's rejections, latest first."""
        return list(reversed(self._kept.get(address, ())))

    def _of(self, address: bytes) -> deque[RejectionRecord]:
        return self._kept.setdefault(address, deque(maxlen=PER_MEMBER))


def _key(address: bytes, record: RejectionRecord) -> bytes:
    return PREFIX + address + bytes([record.number % PER_MEMBER])
