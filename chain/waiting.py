"""What a mempool holds: by id, by sender and nonce, and best first. Judges nothing; see chain.mempool."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from chain.types import Kind, Transaction

_PROTOCOL_KINDS = frozenset({Kind.BEACON, Kind.REVEAL, Kind.CHALLENGE, Kind.EVIDENCE, Kind.KEY})
_RATE_SCALE = 1 << 20
_SPARE_HEADS = 1024

Key = tuple[int, int, int]
"""Sorts transactions best first: class, then fee per byte, both negated, then order of arrival."""


class Standing(Enum):
    """Whether a pooled transaction can go into the next block."""

    READY = "ready"
    PARKED = "parked"  # an earlier nonce of the sender is not here
    WAITING = "waiting"  # facts are missing


@dataclass(slots=True, eq=False)
class Entry:
    """A transaction in the pool. `rate` is its fee per byte, `number` its place in the order of arrival."""

    transaction: Transaction
    height: int  # of the block that was next when it came
    number: int = 0
    standing: Standing = Standing.PARKED
    missing: tuple[object, ...] = ()
    idle_since: int | None = None  # height of the next block when it was first seen not ready
    address: bytes = field(init=False)
    nonce: int = field(init=False)
    size: int = field(init=False)
    rate: int = field(init=False)

    def __post_init__(self) -> None:
        transaction = self.transaction
        self.address, self.nonce, self.size = transaction.address, transaction.nonce, len(transaction.raw)
        self.rate = transaction.fee * _RATE_SCALE // self.size

    @property
    def is_protocol(self) -> bool:
        """Whether it has a right to the reserved room: only what is ready is known to be more than a claim."""
        return self.standing is Standing.READY and self.transaction.kind in _PROTOCOL_KINDS

    @property
    def rank(self) -> tuple[int, int]:
        """What eviction goes by, the lowest first: only what is ready is sure to pay its fee."""
        if self.standing is not Standing.READY:
            return 0, 0
        return (2 if self.is_protocol else 1), self.rate


_Head = tuple[Key, Entry]


class Waiting:
    """The entries of a pool. `size` in bytes; `protocol_count` and `protocol_size` are of the ready protocol ones."""

    def __init__(self) -> None:
        self.size = 0
        self.ready = 0
        self.protocol_count = 0
        self.protocol_size = 0
        self._entries: dict[bytes, Entry] = {}
        self._senders: dict[bytes, dict[int, Entry]] = {}
        self._next = 0
        # Senders' first ready transactions as a heap. An item counts while it is the one that `_head` names; senders
        # in `_changed` are looked at again before the heap is used.
        self._heap: list[_Head] = []
        self._head: dict[bytes, _Head] = {}
        self._changed: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, transaction_id: bytes) -> Entry | None:
        """The entry of a transaction."""
        return self._entries.get(transaction_id)

    def queue(self, address: bytes) -> dict[int, Entry]:
        """A sender's entries by nonce; not to be changed."""
        return self._senders.get(address, {})

    def entries(self) -> list[Entry]:
        """Everything, in order of arrival."""
        return sorted(self._entries.values(), key=lambda entry: entry.number)

    def insert(self, entry: Entry) -> None:
        """Take an entry, the last to arrive; its sender's nonce must be free."""
        entry.number = self._next
        self._next += 1
        self._entries[entry.transaction.id] = entry
        self._senders.setdefault(entry.address, {})[entry.nonce] = entry
        self.size += entry.size
        self._count(entry, 1)

    def remove(self, entry: Entry) -> None:
        """Drop an entry that is here."""
        del self._entries[entry.transaction.id]
        queue = self._senders[entry.address]
        del queue[entry.nonce]
        if not queue:
            del self._senders[entry.address]
        self.size -= entry.size
        self._count(entry, -1)

    def judge(self, entry: Entry, standing: Standing, missing: tuple[object, ...] = ()) -> None:
        """Change how an entry that is here stands."""
        self._count(entry, -1)
        entry.standing, entry.missing = standing, missing
        self._count(entry, 1)

    def park_all(self) -> list[Entry]:
        """Judge everything as parked; returns it in order of arrival."""
        entries = self.entries()
        for entry in entries:
            entry.standing, entry.missing = Standing.PARKED, ()
        self.ready = self.protocol_count = self.protocol_size = 0
        self._changed.update(dict.fromkeys(self._senders))
        return entries

    def _count(self, entry: Entry, sign: int) -> None:
        self._changed[entry.address] = None
        if entry.standing is Standing.READY:
            self.ready += sign
        if entry.is_protocol:
            self.protocol_count += sign
            self.protocol_size += sign * entry.size

    def settle(self) -> None:
        """Bring the order up to date; `best_first` does it too, and is quicker where little changed before."""
        for address in self._changed:
            head = self._first(self.queue(address))
            if head is None:
                self._head.pop(address, None)
            else:
                self._head[address] = head
                heapq.heappush(self._heap, head)
        self._changed.clear()
        if len(self._heap) > 2 * len(self._head) + _SPARE_HEADS:
            self._heap = list(self._head.values())
            heapq.heapify(self._heap)

    def best_first(self) -> Iterator[Transaction]:
        """Ready transactions: the protocol's, then by fee per byte, each sender's in order of nonce.

        The pool must not change meanwhile.
        """
        self.settle()
        heap = self._heap
        # Candidates with their place in the heap, or -1 for those that follow a head: the heap itself stays as it is.
        open_: list[tuple[Key, int, Entry]] = [(heap[0][0], 0, heap[0][1])] if heap else []
        while open_:
            _, at, entry = heapq.heappop(open_)
            if at >= 0:
                for child in (2 * at + 1, 2 * at + 2):
                    if child < len(heap):
                        heapq.heappush(open_, (heap[child][0], child, heap[child][1]))
                if self._head.get(entry.address) is not heap[at]:
                    continue
            yield entry.transaction
            queue = self._senders[entry.address]
            follower = queue.get(entry.nonce + 1)
            if follower is not None and follower.standing is Standing.READY:
                heapq.heappush(open_, (_key(follower, queue), -1, follower))

    @staticmethod
    def _first(queue: dict[int, Entry]) -> _Head | None:
        """The ready entry of the lowest nonce, with its key."""
        ready = [nonce for nonce, entry in queue.items() if entry.standing is Standing.READY]
        if not ready:
            return None
        entry = queue[min(ready)]
        return _key(entry, queue), entry

    def lowest_first(self) -> Iterable[Entry]:
        """Everything, the lowest rank first, of one rank the latest first."""
        return sorted(self._entries.values(), key=lambda entry: (entry.rank, -entry.number))


def _key(entry: Entry, queue: dict[int, Entry]) -> Key:
    """What stands before a protocol transaction takes its class: otherwise it would hold it up."""
    if len(queue) == 1:
        first = entry.is_protocol
    else:
        first = any(other.is_protocol for nonce, other in queue.items() if nonce >= entry.nonce)
    return (-1 if first else 0), -entry.rate, entry.number
