"""Leases: for each genotype at most one holder at a time, until a deadline or until the holder falls silent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
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
class LeaseBook:
    """All leases of the current work. Expired ones stay known, so that a late first result still counts."""

    storage: Storage
    silence: float
    held: dict[int, Held] = field(default_factory=dict)
    queue: deque[Returned] = field(default_factory=deque)
    failures: dict[bytes, int] = field(default_factory=dict)

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
            self.held[lease.id] = Held(lease, set(lease.genotypes) - results, None, 0, record.expired)
        live = {genotype for held in self.live() for genotype in held.open}
        for held in self.held.values():
            left = [genotype for genotype in held.left if genotype not in live]
            if held.expired and left:
                self._enqueue(held.lease, left)
                live.update(left)

    def live(self) -> list[Held]:
        """Leases that bind: not expired, with genotypes that have no result."""
        return [held for held in self.held.values() if held.open and not held.expired]

    def taken(self) -> set[bytes]:
        """Genotypes that must not be proposed: leased, or waiting for a backup, or given up."""
        found = {genotype for held in self.held.values() for genotype in held.open}
        found.update(genotype for returned in self.queue for genotype in returned.genotypes)
        return found | self.failures.keys()

    def of(self, member: bytes, worker: bytes) -> list[Held]:
        """Live leases of a worker, oldest first."""
        return [held for held in self.live() if (held.lease.member, held.lease.worker) == (member, worker)]

    def grant(
        self, member: bytes, worker: bytes, prefix: bytes, genotypes: tuple[bytes, ...], now: float, deadline: float
    ) -> Lease:
        """A new lease, durable when this returns. Its id was never used before."""
        number = int.from_bytes(self.storage.get(COUNTER) or b"", "big") + 1
        lease = Lease(number, member, worker, prefix, genotypes, now, deadline)
        held = Held(lease, set(genotypes), now)
        self.storage.write([(COUNTER, number.to_bytes(8, "big")), _write(held)])
        self.held[number] = held
        return lease

    def take_returned(self, worker: tuple[bytes, bytes], others: bool) -> Returned | None:
        """Genotypes that wait for a backup; those of `worker` itself only where there are no `others`."""
        for returned in self.queue:
            if returned.worker != worker or not others:
                self.queue.remove(returned)
                return returned
        return None

    def progress(self, held: Held, step: int, now: float) -> None:
        """The holder reports `step` steps done in all. Only an advance counts as a sign of life."""
        if step > held.step:
            held.step, held.heard = step, now

    def release(self, held: Held, genotype: bytes, most_failures: int) -> None:
        """The holder could not train `genotype`: someone else may try, but not for ever."""
        held.open.discard(genotype)
        lease = held.lease
        kept = tuple(other for other in lease.genotypes if other != genotype)
        held.lease = Lease(lease.id, lease.member, lease.worker, lease.prefix, kept, lease.granted, lease.deadline)
        self.storage.write([_write(held) if held.open else (_key(lease.id), None)])
        if not held.open:
            del self.held[lease.id]
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
            self._enqueue(held.lease, list(held.left))
            changes.append(_write(held))
            found.append(held.lease)
        if changes:
            self.storage.write(changes)
        return found

    def finished(self, genotype: bytes) -> Writes:
        """The changes to store when a genotype gets a result. Call `close` once they are durable."""
        return [(_key(held.lease.id), None) for held in self.held.values() if held.open == {genotype}]

    def close(self, genotype: bytes) -> None:
        """A genotype has a result: nobody needs to train it any more."""
        for number in [number for number, held in self.held.items() if genotype in held.open]:
            self.held[number].open.discard(genotype)
            if not self.held[number].open:
                del self.held[number]
        for returned in list(self.queue):
            if genotype in returned.genotypes:
                returned.genotypes.remove(genotype)
                if not returned.genotypes:
                    self.queue.remove(returned)

    def clear(self) -> Writes:
        """Forget all leases: the work changed. Returns the changes to store."""
        self.held.clear()
        self.queue.clear()
        self.failures.clear()
        return [(key, None) for key, _ in self.storage.iterate(PREFIX)]

    def _enqueue(self, lease: Lease, genotypes: list[bytes]) -> None:
        self.queue.append(Returned(lease.prefix, genotypes, (lease.member, lease.worker)))


def _key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8, "big")


def _write(held: Held) -> tuple[bytes, bytes]:
    lease = held.lease
    record = LeaseRecord(
        lease.id, lease.member, lease.worker, lease.prefix, lease.genotypes,
        milliseconds(lease.granted), milliseconds(lease.deadline), held.expired,
    )  # fmt: skip
    return _key(lease.id), record.encode()
