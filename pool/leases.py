"""Leases: who trains what, until when; backups for holders that fall silent, behind, or past their deadline."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from chain.errors import BadEncoding
from pool.errors import PoolFault
from pool.records import LeaseRecord, milliseconds
from pool.speed import MEASURED, Rate, Speeds, behind
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
    """A lease and what happened to it. `heard` is None after a restart, until the clock is known.

    `audits` are those of its genotypes that have a result, to be compared. `sent` is what the holder was told last, its
    `step` counts over that. `expected` is the usual speed of its worker when it began, in MACs a second. A lease that
    is `backed` binds, but its genotypes were offered to a backup too; one that `expired` binds no more.
    """

    lease: Lease
    open: set[bytes]
    heard: float | None
    audits: frozenset[bytes]
    rate: Rate
    sent: tuple[bytes, ...]
    expected: float | None = None
    step: int = 0
    starts: set[int] = field(default_factory=set)  # steps over `sent` at which it goes on from a state
    backed: bool = False
    expired: bool = False

    @property
    def left(self) -> tuple[bytes, ...]:
        """Genotypes that still want a result of this holder, in order."""
        return tuple(genotype for genotype in self.lease.genotypes if genotype in self.open)

    def holds(self, genotype: bytes) -> bool:
        """Whether the lease binds, and wants a result of a genotype."""
        return not self.expired and genotype in self.open

    @property
    def worker(self) -> tuple[bytes, bytes]:
        """The holder: member and worker."""
        return self.lease.member, self.lease.worker

    @property
    def record(self) -> tuple[bytes, bytes]:
        """Key and value in the storage."""
        lease = self.lease
        record = LeaseRecord(
            lease.id, lease.member, lease.worker, lease.prefix, lease.genotypes, self.left, tuple(sorted(self.audits)),
            milliseconds(lease.granted), milliseconds(lease.deadline), self.backed, self.expired,
        )  # fmt: skip
        return _key(lease.id), record.encode()


@dataclass(slots=True)
class Returned:
    """Genotypes of a lease that is in trouble or was released, that wait for another worker."""

    prefix: bytes
    genotypes: list[bytes]
    worker: tuple[bytes, bytes]


@dataclass(slots=True)
class Index:
    """What else were to be looked for among all leases: live ones by id, worker and member; genotypes by place.

    `audits` counts, for genotypes to be compared, the live leases that they are open in.
    """

    live: dict[int, Held] = field(default_factory=dict)
    workers: dict[tuple[bytes, bytes], dict[int, Held]] = field(default_factory=dict)
    members: Counter[bytes] = field(default_factory=Counter)
    holders: dict[bytes, set[int]] = field(default_factory=dict)
    audits: Counter[bytes] = field(default_factory=Counter)
    waiting: dict[bytes, Returned] = field(default_factory=dict)

    def enter(self, held: Held) -> None:
        """A lease binds."""
        lease = held.lease
        self.live[lease.id] = held
        self.workers.setdefault(held.worker, {})[lease.id] = held
        self.members[lease.member] += 1
        self.audits.update(held.audits & held.open)

    def leave(self, held: Held) -> None:
        """A lease does not bind any more."""
        lease = held.lease
        if self.live.pop(lease.id, None) is None:
            return
        mine = self.workers[held.worker]
        del mine[lease.id]
        if not mine:
            del self.workers[held.worker]
        self.members[lease.member] -= 1
        if not self.members[lease.member]:
            del self.members[lease.member]
        for genotype in held.audits & held.open:
            self.drop_audit(genotype)

    def drop_audit(self, genotype: bytes) -> None:
        """A genotype to be compared is not open any more in one live lease."""
        self.audits[genotype] -= 1
        if not self.audits[genotype]:
            del self.audits[genotype]

    def binding(self, genotype: bytes) -> Iterator[Held]:
        """Live leases in which a genotype is open: the first holder's, those of backups, and one to compare."""
        return (self.live[number] for number in self.holders.get(genotype, ()) if number in self.live)


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
    """All leases of the current work. Expired ones stay known, so that a late first result still counts.

    `cost` gives the MACs of one training step, `steps` the steps of a training; both are set with the work.
    """

    storage: Storage
    silence: float
    cost: Callable[[bytes], int] = field(default=lambda genotype: 1)
    steps: int = 1
    held: dict[int, Held] = field(default_factory=dict)
    queue: deque[Returned] = field(default_factory=deque)
    failures: dict[bytes, int] = field(default_factory=dict)
    speeds: Speeds = field(default_factory=Speeds)
    _index: Index = field(default_factory=Index)
    _last: int = 0  # id of the latest lease

    def load(self) -> None:
        """Read the leases back after a restart. Speeds are measured anew."""
        self._last = int.from_bytes(self.storage.get(COUNTER) or b"", "big")
        for key, value in self.storage.iterate(PREFIX):
            try:
                record = LeaseRecord.decode(value)
            except BadEncoding as error:
                raise PoolFault(f"lease {key.hex()} is damaged: {error}") from error
            lease = Lease(
                record.id, record.member, record.worker, record.prefix, record.genotypes,
                record.granted / 1000, record.deadline / 1000,
            )  # fmt: skip
            held = Held(
                lease, set(record.open), None, frozenset(record.audits), Rate(self.silence), lease.genotypes,
                backed=record.backed, expired=record.expired,
            )  # fmt: skip
            self._enter(held)
        for held in self.held.values():
            if held.expired or held.backed:
                self._offer(held, held.left)

    def live(self) -> list[Held]:
        """Leases that bind: not expired, with genotypes that want a result."""
        return list(self._index.live.values())

    def taken(self) -> Collection[bytes]:
        """Genotypes that must not be proposed: leased, or waiting for a backup, or given up."""
        return Union((self._index.holders, self.failures))  # what waits is still open in its lease, or has failed

    def audited(self, genotype: bytes) -> bool:
        """Whether someone holds a genotype now to compare it with a result that is there."""
        return genotype in self._index.audits

    def held_by(self, member: bytes, lease: int) -> Held | None:
        """A member's lease by its id, expired or not."""
        held = self.held.get(lease)
        return held if held is not None and held.lease.member == member else None

    def of(self, member: bytes, worker: bytes) -> list[Held]:
        """Live leases of a worker, oldest first."""
        return list(self._index.workers.get((member, worker), {}).values())

    def count(self, member: bytes) -> int:
        """How many live leases a member holds, with all its workers."""
        return self._index.members[member]

    def grant(
        self,
        worker: tuple[bytes, bytes],
        prefix: bytes,
        genotypes: tuple[bytes, ...],
        now: float,
        deadline: float,
        audits: frozenset[bytes] = frozenset(),
    ) -> Lease:
        """A new lease, durable when this returns. Its id was never used before."""
        number = self._last + 1
        lease = Lease(number, *worker, prefix, genotypes, now, deadline)
        held = Held(lease, set(genotypes), now, audits, Rate(self.silence), genotypes, self.speeds.of(worker))
        self.storage.write([(COUNTER, number.to_bytes(8, "big")), held.record])
        self._last = number
        self._enter(held)
        return lease

    def renew(self, held: Held, genotypes: tuple[bytes, ...], now: float) -> Lease:
        """The holder asks again, and is told what is left: its count of steps begins anew."""
        if genotypes != held.sent:
            held.sent, held.step, held.starts = genotypes, 0, set()
        held.heard = now
        return replace(held.lease, genotypes=genotypes)

    def take_returned(
        self, worker: tuple[bytes, bytes], others: bool, fits: Callable[[list[bytes]], bool]
    ) -> Returned | None:
        """Genotypes that wait for a backup and fit; those of `worker` itself only where there are no `others`."""
        for returned in self.queue:
            if (returned.worker != worker or not others) and fits(returned.genotypes):
                self.queue.remove(returned)
                for genotype in returned.genotypes:
                    self._index.waiting.pop(genotype, None)
                return returned
        return None

    def progress(self, held: Held, step: int, now: float) -> None:
        """The holder reports `step` steps done in all. Only an advance counts as a sign of life."""
        step = min(step, len(held.sent) * self.steps)
        skipped = max((start for start in held.starts if held.step < start <= step), default=None)
        if skipped is not None:
            held.step, held.heard = skipped, now  # others did these steps: they say nothing about its speed
        if held.heard is None:
            held.step, held.heard = step, now
        if step <= held.step or now <= held.heard:
            return
        work, seconds = self._work(held, step) - self._work(held, held.step), now - held.heard
        held.step, held.heard = step, now
        held.rate.add(work, seconds)
        self.speeds.add(held.worker, work, seconds, self.silence)
        if held.expected is None and held.rate.weight >= MEASURED:
            held.expected = held.rate.mean()

    def skip(self, held: Held, genotype: bytes, steps: int) -> None:
        """The holder goes on from a state after `steps` steps of a genotype."""
        if genotype in held.sent:
            held.starts.add(held.sent.index(genotype) * self.steps + steps)

    def duration(self, worker: tuple[bytes, bytes], genotypes: Iterable[bytes]) -> float | None:
        """Seconds that a worker should take to train `genotypes`; None where its speed is not known."""
        speed = self.speeds.of(worker)
        return self._whole(genotypes) / speed if speed else None

    def release(self, held: Held, genotype: bytes, most_failures: int) -> None:
        """The holder could not train `genotype`: someone else may try, but not for ever."""
        self._shut(held, genotype)
        lease = held.lease
        held.lease = replace(lease, genotypes=tuple(other for other in lease.genotypes if other != genotype))
        self.storage.write([held.record if held.open else (_key(lease.id), None)])
        self.failures[genotype] = self.failures.get(genotype, 0) + 1
        if not self.given_up(genotype, most_failures):
            self._offer(held, (genotype,))

    def given_up(self, genotype: bytes, most_failures: int) -> bool:
        """Whether so many holders could not train `genotype` that nobody else should try."""
        return self.failures.get(genotype, 0) >= most_failures

    def expire(self, now: float) -> list[Lease]:
        """Take leases from holders that are silent or past the deadline; their genotypes wait for another worker."""
        found = []
        for held in self.live():
            if held.heard is None:
                held.heard = now  # a pool that was away must not blame its members for its own silence
            if now >= min(held.lease.deadline, held.heard + self.silence):
                self._expire(held)
                found.append(held)
        return self._offer_all(found)

    def back_up(self, now: float, closes: float, z: float) -> list[Lease]:
        """Offer the leases of holders that fell behind to a backup too; the holders may still finish.

        Behind is who performs more than `z` sigma_p below the mean of all that were not found to be so before, or
        cannot end before `closes` at this speed where a worker of typical speed could.
        """
        speeds: dict[int, float] = {}
        for held in self.live():
            if held.backed or held.heard is None or held.expected is None or held.rate.weight < MEASURED:
                continue
            speeds[held.lease.id] = held.rate.mean(max(0.0, now - held.heard - self.silence / 2)) or 0.0
        usual = {number: self.held[number].expected or 1.0 for number in speeds}
        slow = set(behind({number: min(2.0, speed / usual[number]) for number, speed in speeds.items()}, z))
        typical = self.speeds.typical()
        for number, speed in speeds.items():
            held = self.held[number]
            rest = self._whole(held.sent) - self._work(held, held.step)
            if rest > speed * (closes - now) and self._whole(held.left) <= typical * (closes - now):
                slow.add(number)
        for number in slow:
            self.held[number].backed = True
        return self._offer_all([self.held[number] for number in sorted(slow)])

    def evict(self, member: bytes) -> Writes:
        """A member lost its place: its leases go to others. Returns the changes to store."""
        found = [held for held in self.live() if held.lease.member == member]
        for held in found:
            self._expire(held)
        for held in found:
            self._offer(held, held.left)
        return [held.record for held in found]

    def finished(self, genotype: bytes) -> Writes:
        """The changes to store when a genotype gets the result that was wanted. Call `close` once they are durable."""
        changes: Writes = []
        for number in sorted(self._index.holders.get(genotype, ())):
            held = self.held[number]
            if held.open == {genotype}:
                changes.append((_key(number), None))
            else:
                changes.append(replace(held, open=held.open - {genotype}).record)
        return changes

    def close(self, genotype: bytes) -> None:
        """A genotype has the result that was wanted: nobody needs to train it any more."""
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

    def _whole(self, genotypes: Iterable[bytes]) -> int:
        """MACs of the trainings of `genotypes`."""
        return self.steps * sum(map(self.cost, genotypes))

    def _work(self, held: Held, step: int) -> int:
        """MACs that `step` steps of a lease have cost."""
        done, rest = divmod(step, self.steps)
        return self._whole(held.sent[:done]) + (rest * self.cost(held.sent[done]) if rest else 0)

    def _offer_all(self, troubled: list[Held]) -> list[Lease]:
        for held in troubled:
            self._offer(held, held.left)
        if troubled:
            self.storage.write([held.record for held in troubled])
        return [held.lease for held in troubled]

    def _offer(self, held: Held, genotypes: tuple[bytes, ...]) -> None:
        """Queue for a backup what nobody else holds or waits for. Audits go back to where they came from."""
        left = [genotype for genotype in genotypes if not self._covered(genotype) and genotype not in held.audits]
        if left:
            returned = Returned(held.lease.prefix, left, held.worker)
            self.queue.append(returned)
            self._index.waiting.update(dict.fromkeys(left, returned))

    def _covered(self, genotype: bytes) -> bool:
        """Whether a genotype waits for a backup, or is open in a lease that needs none."""
        return genotype in self._index.waiting or any(not held.backed for held in self._index.binding(genotype))

    def _enter(self, held: Held) -> None:
        self.held[held.lease.id] = held
        for genotype in held.open:
            self._index.holders.setdefault(genotype, set()).add(held.lease.id)
        if held.open and not held.expired:
            self._index.enter(held)

    def _expire(self, held: Held) -> None:
        """A lease binds no more. It stays known while there is something open in it."""
        held.expired = True
        self._index.leave(held)

    def _shut(self, held: Held, genotype: bytes) -> None:
        """The holder is not to train `genotype` any more; a lease with nothing left is over."""
        if genotype in held.audits and held.lease.id in self._index.live:
            self._index.drop_audit(genotype)
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
