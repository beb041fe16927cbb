"""Leases: for each genotype at most one holder at a time, until a deadline or until the holder falls silent."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from chain.errors import BadEncoding
from pool.errors import PoolFault
from pool.records import LeaseRecord, milliseconds
from pool.storage import Storage, Writes

PREFIX = b"l"
COUNTER = b"c/lease"


@dataclass(frozen=True, slots=True)
class Lease:
    """The sole right of one worker of `member` (an address) to `genotypes`, all in the subspace `prefix`."""

    id: int
    member: bytes
    worker: bytes
    prefix: bytes
    genotypes: tuple[bytes, ...]
    granted: float
    deadline: float


@dataclass(slots=True)
class Held:
    """A lease and what happened to it. `heard` is None after a restart, until the clock is known."""

    lease: Lease
    open: set[bytes]
    heard: float | None
    step: int = 0
    expired: bool = False

    @property
    def left(self) -> tuple[bytes, ...]:
        """Genotypes without a result, in order."""
        return tuple(genotype for genotype in self.lease.genotypes if genotype in self.open)


@dataclass(slots=True)
class Returned:
    """Genotypes of an expired or released lease, that wait for another worker."""

    prefix: bytes
    genotypes: list[bytes]
    worker: tuple[bytes, bytes]


@dataclass(slots=True)
class Index:
    """What else were to be looked for among all leases: live ones by id, worker and member; genotypes by place."""

    live: dict[int, Held] = field(default_factory=dict)
    workers: dict[tuple[bytes, bytes], dict[int, Held]] = field(default_factory=dict)
    members: Counter[bytes] = field(default_factory=Counter)
    holders: dict[bytes, set[int]] = field(default_factory=dict)
    waiting: dict[bytes, Returned] = field(default_factory=dict)

    def enter(self, held: Held) -> None:
        """A lease binds."""
        lease = held.lease
        self.live[lease.id] = held
        self.workers.setdefault((lease.member, lease.worker), {})[lease.id] = held
        self.members[lease.member] += 1

    def leave(self, held: Held) -> None:
        """A lease does not bind any more."""
        lease = held.lease
        if self.live.pop(lease.id, None) is None:
            return
        mine = self.workers[lease.member, lease.worker]
        del mine[lease.id]
        if not mine:
            del self.workers[lease.member, lease.worker]
        self.members[lease.member] -= 1
        if not self.members[lease.member]:
            del self.members[lease.member]


@dataclass(frozen=True, slots=True)
class Union(Collection[bytes]):
    """The union of collections, without a copy; all but the first should be small."""

    parts: tuple[Collection[bytes], ...]

    def __contains__(self, genotype: object) -> bool:
        return any(genotype in part for part in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        return itertools.chain(self.parts[0], self._more())

    def __len__(self) -> int:
        return len(self.parts[0]) + len(self._more())

    def _more(self) -> set[bytes]:
        return {genotype for part in self.parts[1:] for genotype in part if genotype not in self.parts[0]}


@dataclass(slots=True)
class LeaseBook:
    """All leases of the current work. Expired ones stay known, so that a late first result still counts."""

    storage: Storage
    silence: float
    held: dict[int, Held] = field(default_factory=dict)
    queue: deque[Returned] = field(default_factory=deque)
    failures: dict[bytes, int] = field(default_factory=dict)
    _index: Index = field(default_factory=Index)

    def load(self, known: Iterable[bytes]) -> None:
        """Read the leases back after a restart; `known` are genotypes that have results."""
        results = set(known)
        for key, value in self.storage.iterate(PREFIX):
            try:
                record = LeaseRecord.decode(value)
            except BadEncoding as error:
                raise PoolFault(f"lease {key.hex()} is damaged: {error}") from error
            lease = Lease(
                record.id, record.member, record.worker, record.prefix, record.genotypes,
                record.granted / 1000, record.deadline / 1000,
            )  # fmt: skip
            self._enter(Held(lease, set(lease.genotypes) - results, None, 0, record.expired))
        live = {genotype for held in self.live() for genotype in held.open}
        for held in self.held.values():
            left = [genotype for genotype in held.left if genotype not in live]
            if held.expired and left:
                self._enqueue(held.lease, left)
                live.update(left)

    def live(self) -> list[Held]:
        """Leases that bind: not expired, with genotypes that have no result."""
        return list(self._index.live.values())

    def taken(self) -> Collection[bytes]:
        """Genotypes that must not be proposed: leased, or waiting for a backup, or given up."""
        return Union((self._index.holders, self.failures))  # what waits is still open in its lease, or has failed

    def of(self, member: bytes, worker: bytes) -> list[Held]:
        """Live leases of a worker, oldest first."""
        return list(self._index.workers.get((member, worker), {}).values())

    def count(self, member: bytes) -> int:
        """How many live leases a member holds, with all its workers."""
        return self._index.members[member]

    def grant(
        self, member: bytes, worker: bytes, prefix: bytes, genotypes: tuple[bytes, ...], now: float, deadline: float
    ) -> Lease:
        """A new lease, durable when this returns. Its id was never used before."""
        number = int.from_bytes(self.storage.get(COUNTER) or b"", "big") + 1
        lease = Lease(number, member, worker, prefix, genotypes, now, deadline)
        held = Held(lease, set(genotypes), now)
        self.storage.write([(COUNTER, number.to_bytes(8, "big")), _write(held)])
        self._enter(held)
        return lease

    def take_returned(self, worker: tuple[bytes, bytes], others: bool) -> Returned | None:
        """Genotypes that wait for a backup; those of `worker` itself only where there are no `others`."""
        for returned in self.queue:
            if returned.worker != worker or not others:
                self.queue.remove(returned)
                for genotype in returned.genotypes:
                    self._index.waiting.pop(genotype, None)
                return returned
        return None

    def progress(self, held: Held, step: int, now: float) -> None:
        """The holder reports `step` steps done in all. Only an advance counts as a sign of life."""
        if step > held.step:
            held.step, held.heard = step, now

    def release(self, held: Held, genotype: bytes, most_failures: int) -> None:
        """The holder could not train `genotype`: someone else may try, but not for ever."""
        self._shut(held, genotype)
        lease = held.lease
        kept = tuple(other for other in lease.genotypes if other != genotype)
        held.lease = Lease(lease.id, lease.member, lease.worker, lease.prefix, kept, lease.granted, lease.deadline)
        self.storage.write([_write(held) if held.open else (_key(lease.id), None)])
        self.failures[genotype] = self.failures.get(genotype, 0) + 1
        if self.failures[genotype] < most_failures:
            self._enqueue(lease, [genotype])

    def expire(self, now: float) -> list[Lease]:
        """Take leases from holders that are silent or past the deadline; their genotypes wait for another worker."""
        changes: Writes = []
        found = []
        for held in self.live():
            if held.heard is None:
                held.heard = now  # a pool that was away must not blame its members for its own silence
            if now < min(held.lease.deadline, held.heard + self.silence):
                continue
            held.expired = True
            self._index.leave(held)
            self._enqueue(held.lease, list(held.left))
            changes.append(_write(held))
            found.append(held.lease)
        if changes:
            self.storage.write(changes)
        return found

    def finished(self, genotype: bytes) -> Writes:
        """The changes to store when a genotype gets a result. Call `close` once they are durable."""
        numbers = self._index.holders.get(genotype, ())
        return [(_key(number), None) for number in numbers if self.held[number].open == {genotype}]

    def close(self, genotype: bytes) -> None:
        """A genotype has a result: nobody needs to train it any more."""
        for number in list(self._index.holders.get(genotype, ())):
            self._shut(self.held[number], genotype)
        returned = self._index.waiting.pop(genotype, None)
        if returned is not None:
            returned.genotypes.remove(genotype)
            if not returned.genotypes:
                self.queue.remove(returned)

    def clear(self) -> Writes:
        """Forget all leases: the work changed. Returns the changes to store."""
        self.held.clear()
        self.queue.clear()
        self.failures.clear()
        self._index = Index()
        return [(key, None) for key, _ in self.storage.iterate(PREFIX)]

    def _enqueue(self, lease: Lease, genotypes: list[bytes]) -> None:
        returned = Returned(lease.prefix, genotypes, (lease.member, lease.worker))
        self.queue.append(returned)
        self._index.waiting.update(dict.fromkeys(genotypes, returned))

    def _enter(self, held: Held) -> None:
        self.held[held.lease.id] = held
        for genotype in held.open:
            self._index.holders.setdefault(genotype, set()).add(held.lease.id)
        if held.open and not held.expired:
            self._index.enter(held)

    def _shut(self, held: Held, genotype: bytes) -> None:
        """The holder is not to train `genotype` any more; a lease with nothing left is over."""
        held.open.discard(genotype)
        holders = self._index.holders[genotype]
        holders.discard(held.lease.id)
        if not holders:
            del self._index.holders[genotype]
        if not held.open:
            self._index.leave(held)
            del self.held[held.lease.id]


def _key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8, "big")


def _write(held: Held) -> tuple[bytes, bytes]:
    lease = held.lease
    record = LeaseRecord(
        lease.id, lease.member, lease.worker, lease.prefix, lease.genotypes,
        milliseconds(lease.granted), milliseconds(lease.deadline), held.expired,
    )  # fmt: skip
    return _key(lease.id), record.encode()
