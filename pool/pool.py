"""The pool as a state machine: leases out, shares in, points and payout tables. Source: protocol section 9.

No I/O but its storage, no clock, no global randomness. What a method changed is in the storage before it returns, or
inside `group` before that is left; a new `Pool` over the same storage continues where the last one was killed.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from chain.collector import no_collections
from chain.keys import address_of
from consensus.types import Payout
from pool import checks, disputes, report, snapshot
from pool.audit import DISPUTED, AuditPolicy, Audits
from pool.book import Book
from pool.disputes import Claim, Replay
from pool.errors import NoLease, PoolFault, ShareRefused
from pool.leases import Lease, LeaseBook, Union
from pool.ledger import Ledger
from pool.payouts import lines, table
from pool.records import (
    BanEntry,
    ConfirmedEntry,
    ContestedEntry,
    Entry,
    PaidEntry,
    RefutedEntry,
    ResumedEntry,
    RoundEntry,
    Share,
    ShareEntry,
    SignedCheckpoint,
    SignedShare,
    Terms,
    TermsEntry,
    VoidedEntry,
    VoidEntry,
    WorkEntry,
    WorkRecord,
    clip,
    milliseconds,
)
from pool.rejections import RejectionLog
from pool.relays import Relays
from pool.results import Results
from pool.schemes import check_terms
from pool.search import DEFAULT_STRATEGY, STRATEGIES, Archive, Strategy
from pool.searches import KEPT
from pool.speed import step_cost
from pool.storage import GroupStorage, Storage, Writes
from pool.views import MemberSummary, PoolSummary
from pool.work import Candidate, Work

_LOOKED_AT = 16
"""Results that want a second training that a request for a lease looks at; those that others hold wait as well."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The operator's choices. Times are in seconds; `network` is the network id."""

    network: bytes
    max_model_bytes: int
    max_state_bytes: int = 16 << 20  # of one training's state; 0: none are taken
    states_bytes: int = 1 << 30  # of all states that are kept
    lease_size: int = 1
    lease_seconds: float = 1800.0  # of a worker whose speed is not known
    lease_slack: float = 3.0  # a deadline is so many times what the lease should take this worker, and the silence
    backup_sigmas: float = 1.5  # who falls so many sigma_p below the mean gets a backup; infinite: nobody
    silence_seconds: float = 60.0
    least_seconds: float = 2.0  # shorter than this before the commits close, no lease is given
    leases_per_worker: int = 4
    leases_per_member: int = 256
    failures: int = 3  # after so many members could not train an architecture it is given up for the epoch
    least_subspaces: int = 8
    starting_points: int = 16
    works_kept: int = KEPT
    strategy: Strategy = STRATEGIES[DEFAULT_STRATEGY]
    audits: AuditPolicy = field(default_factory=AuditPolicy)
    replays_per_work: int = 4  # results that no second member trained, that the pool trains itself after a search
    terms: Terms = field(default_factory=Terms)
    snapshot_entries: int = 10_000  # so many entries of the ledger lie at most between snapshots


@dataclass(frozen=True, slots=True)
class Accepted:
    """A share that stands in the ledger, and the points that it earned, or earns where it is contested and true."""

    share: bytes
    points: int


class Pool:
    """See the module. Members are named by their 20-byte address, their machines by `worker`, a name of their own."""

    def __init__(self, storage: Storage, settings: PoolSettings, rng: random.Random) -> None:
        """Rebuild the state from `storage`. Raises PoolFault where that is damaged, ValueError for impossible terms."""
        self._storage = storage = GroupStorage(storage)
        self.settings = settings
        self.leasing = False
        self.book = Book()
        self.results = Results(settings.least_subspaces, settings.starting_points, settings.works_kept)
        self.leases = LeaseBook(storage, settings.silence_seconds)
        self.audits = Audits(storage, settings.audits, rng.randbytes(32))
        self.relays = Relays(storage, settings.states_bytes)
        self.rejections = RejectionLog(storage)
        self.seen: dict[tuple[bytes, bytes], float] = {}
        self.rejected: Counter[str] = Counter()  # by code, since the start
        self.ledger = Ledger(storage)
        self._rng = rng
        self._settled = False  # whether what a kill left undone has been looked for
        self._saved = self._restore()
        for number, entry in self.ledger.replay(self._saved):
            self._apply(number, entry)
        self.leases.load()
        self.see_best()
        if self.book.terms != settings.terms:
            check_terms(settings.terms)
            self.append(TermsEntry(settings.terms, *self.book.scheme.since))

    def group(self) -> AbstractContextManager[None]:
        """What is done inside is stored in one batch on leaving; see `GroupStorage`."""
        return self._storage.group()

    @property
    def work(self) -> Work | None:
        """The current search, or the last one."""
        return self.results.work

    @property
    def archive(self) -> Archive | None:
        """Results of the current work."""
        return self.results.archive

    @property
    def archives(self) -> dict[bytes, tuple[Work, Archive]]:
        """Searches that the pool remembers and their results, by work id, oldest first."""
        return self.results.archives

    def is_open(self, now: float) -> bool:
        """Whether the current search goes on: what it found can still be stolen."""
        return self.work is not None and now < self.work.closes

    def open_from(self, now: float) -> int:
        """The ledger's entries from this number on belong to the open search; its size where none is open."""
        return self.results.began if self.is_open(now) else len(self.ledger)

    # --- the epoch's work

    def set_work(self, work: Work | None, now: float) -> None:
        """Begin the search of an epoch, or with None stop giving leases. The same work again continues it."""
        self.leasing = work is not None
        if work is None:
            return
        record = WorkRecord.of(work)
        if self.work is None or WorkRecord.of(self.work) != record:
            changed = self.work is None or self.work.id != work.id
            gone = [*self.leases.clear(), *self.relays.clear()] if changed else []
            self.append(WorkEntry(milliseconds(now), record), gone)
            works = set(self.archives)
            self.write([*self.audits.keep_only(works), *self.relays.keep_only(works)])

    def candidates(self, limit: int) -> list[Candidate]:
        """The best results of the current work that nobody disputes, best first."""
        if self.work is None or self.archive is None:
            return []
        disputed = {genotype for work, genotype in self.audits.checks(DISPUTED) if work == self.work.id}
        found = self.archive.best(limit + len(disputed))
        return [result for result in found if result.genotype not in disputed][:limit]

    # --- what the pool trains itself

    def replays(self, now: float) -> list[Replay]:
        """What the pool should train again now, most urgent first."""
        return disputes.replays(self, now)

    def resolve(self, replay: Replay, leaves: tuple[bytes, ...], now: float) -> list[bytes]:
        """The outcome of a replay: its first leaves. Returns the members that are banned for it."""
        return disputes.resolve(self, replay, leaves, now)

    def refute(self, genotype: bytes, leaves: tuple[bytes, ...], reason: str, now: float) -> None:
        """A result is known to be false: its finder forfeits what is unpaid, and its place."""
        for _, archive in reversed(self.archives.values()):
            result = archive.get(genotype)
            if result is not None and result.leaves == leaves:
                disputes.ban(self, Claim(result.finder, result.model, leaves), reason, now)
                return

    # --- members and leases

    def join(self, public_key: bytes, worker: bytes, now: float) -> bytes:
        """A member's machine connected; returns the member's address. Raises NoLease where it lost its place."""
        address = address_of(public_key)
        self._check_place(address)
        self._saw(address, worker, now)
        return address

    def lease(self, member: bytes, worker: bytes, now: float, trained: frozenset[bytes] = frozenset()) -> Lease:
        """The worker's lease, or a new one where it has none with work left.

        `trained` are genotypes that it has done and whose shares are on their way. Raises NoLease.
        """
        work, archive = self._leasable(member, now)
        self._saw(member, worker, now)
        mine = self.leases.of(member, worker)
        for held in mine:
            left = tuple(genotype for genotype in held.left if genotype not in trained)
            if left:
                return self.leases.renew(held, left, now)
        self._check_hoarding(member, len(mine))
        holder = member, worker

        def fits(genotypes: Sequence[bytes]) -> bool:
            return not trained & set(genotypes) and now + (self.leases.duration(holder, genotypes) or 0) < work.closes

        returned = self.leases.take_returned(holder, self._others(holder, now), fits)
        audits: frozenset[bytes] = frozenset()
        if returned is not None:
            prefix, genotypes = returned.prefix, tuple(returned.genotypes)
        else:
            audits = self._audit_for(work, archive, member, trained)
            prefix, genotypes = self._propose(archive, audits, fits)
        seconds = self.leases.duration(holder, genotypes)
        if seconds is None:
            seconds = self.settings.lease_seconds
        else:
            seconds = self.settings.lease_slack * seconds + self.settings.silence_seconds
        deadline = milliseconds(min(now + seconds, work.closes)) / 1000
        return self.leases.grant(holder, prefix, genotypes, milliseconds(now) / 1000, deadline, audits)

    def progress(self, member: bytes, worker: bytes, lease: int, step: int, now: float) -> bool:
        """A worker reports steps done in a lease. False where the lease is not its to hold any more."""
        self._saw(member, worker, now)
        held = self.leases.held_by(member, lease)
        if held is None or held.expired:
            return False
        self.leases.progress(held, step, now)
        return True

    def release(self, member: bytes, lease: int, genotype: bytes) -> None:
        """A member cannot train an architecture of its lease: it goes to someone else."""
        held = self.leases.held_by(member, lease)
        if held is not None and held.holds(genotype):
            self.leases.release(held, genotype, self.settings.failures)

    def tick(self, now: float) -> list[Lease]:
        """Let time pass. Returns the leases that expired or fell behind; their genotypes wait for another worker."""
        if not self._settled:
            disputes.reconsider(self, now)
            self._settled = True
        gone = now - 10 * self.settings.silence_seconds
        for key in list(itertools.takewhile(lambda key: self.seen[key] < gone, self.seen)):
            del self.seen[key]
            self.leases.speeds.forget(key)
        if len(self.ledger) - self._saved >= self.settings.snapshot_entries:
            self.save_snapshot()
        expired = self.leases.expire(now)
        if self.work is None or now >= self.work.closes or math.isinf(self.settings.backup_sigmas):
            return expired
        return expired + self.leases.back_up(now, self.work.closes, self.settings.backup_sigmas)

    # --- shares

    def check_share(self, member_key: bytes, signed: SignedShare, model: bytes, now: float) -> Accepted | None:
        """Everything that can be said of a share without running its model.

        None: run the model and call `accept_share`. Accepted: it was accepted before, and the acknowledgement got lost.
        Raises ShareRefused, which the member can read later.
        """
        checks.check_author(signed, self.settings.network, member_key)
        try:
            known = self._standing(signed)
            if known is None:
                work = self._work_of(signed.share)
                checks.check_form(signed.share, work, model, self.settings.max_model_bytes)
                checks.check_time(work, now)
        except ShareRefused as refused:
            self._keep(signed.share, refused, now)
            raise
        return known

    def accept_share(self, signed: SignedShare, validation_correct: int, now: float) -> Accepted:
        """Take a share that passed `check_share`, and whose model the pool measured. Durable when this returns.

        It is credited, unless it contradicts a result that the pool has: then the ledger has it as contested until a
        replay tells who is right. Raises ShareRefused; the checks against the state are made again, as time passed
        while the model ran.
        """
        share = signed.share
        try:
            known = self._standing(signed)
            if known is not None:
                return known
            work = self._work_of(share)
            checks.check_score(share, validation_correct)
        except ShareRefused as refused:
            self._keep(share, refused, now)
            raise
        id, points, genotype = share.id, work.points(validation_correct), share.genotype
        result = self.archives[work.id][1].get(genotype)
        writes, origin = self.leases.finished(genotype), None
        if result is None:
            origin = self.relays.went_on_from(share)
            doubtful = self._doubtful(share, origin)
            writes += self.audits.enter(work.id, genotype, share.address, validation_correct, id, doubtful)
        if origin is not None:
            writes += self.relays.set_origin(work.id, share, origin)
        writes += self.relays.finished(genotype)
        same = result is None or result.leaves == share.leaves
        if result is not None:
            writes += self.audits.compare(work.id, genotype, result.finder, signed, same)
        at, first = milliseconds(now), self.results.number_of(work.id, genotype)
        if origin is not None:
            self.append(ResumedEntry(at, signed, points, origin), writes)
        elif not same:
            self.append(ContestedEntry(at, signed, points), writes)
        elif first is not None:
            self.append(ConfirmedEntry(at, signed, points, first), writes)
        else:
            self.append(ShareEntry(at, signed, points), writes)
        self.leases.close(genotype)
        return Accepted(id, points)

    # --- the operator's hand

    def ban(self, member: bytes, reason: str, now: float) -> None:
        """Shut a member out, for a reason that it can read. What it is owed stays owed."""
        self.append(BanEntry(milliseconds(now), member, True, clip(reason)))

    def unban(self, member: bytes, now: float) -> bool:
        """Let a banned member in again; False where the operator had not banned it."""
        known = member in self.book.shut_out
        if known:
            self.append(BanEntry(milliseconds(now), member, False, ""))
        return known

    def save_snapshot(self) -> None:
        """Keep the state as it is, so that a start need not replay the ledger up to here."""
        size = len(self.ledger)
        with no_collections():  # it makes many objects, and frees them again
            book, results = snapshot.state_of(self.book), self.results.states()
            found = snapshot.Snapshot(size, self.ledger.root, self.results.began, book, *results)
            snapshot.save(self._storage, found)
        self._saved = size

    # --- payout tables

    def payouts(self, limit: int) -> tuple[Payout, ...]:
        """What a table made now would carry, by points alone. A preview: it reserves nothing."""
        terms = self.book.terms
        return table(self.book.due(lines(limit, terms)), None, limit, terms)

    def preview(self, terms: Terms, limit: int) -> tuple[Payout, ...]:
        """What the next table would carry by points if `terms` held from now on. Changes nothing."""
        book = snapshot.book_of(snapshot.state_of(self.book))
        if terms != book.terms:
            book.apply(len(self.ledger), TermsEntry(terms, *book.scheme.since))
        return table(book.due(lines(limit, terms)), None, limit, terms)

    def payouts_for(self, candidate: Candidate, limit: int) -> tuple[Payout, ...]:
        """The payout table for the reveal of `candidate`, at most `limit` lines; 1/8 is the finder's, less the fee.

        The first call of an epoch fixes and reserves the points that all tables of the epoch carry; what does not
        fit is carried over. The same call gives the same table, also after a restart. Raises PoolFault where
        the candidate is not one of this pool's.
        """
        epoch = self._epoch_of(candidate)
        if epoch not in self.book.rounds:
            terms = self.book.terms
            credits = self.book.due(lines(limit, terms))
            self.append(RoundEntry(epoch, credits, terms, *self.book.scheme.since))
        fixed = self.book.rounds[epoch]
        return table(fixed.credits, candidate.finder, limit, fixed.terms)

    def table_paid(self, result_id: bytes, epoch: int, payouts: tuple[Payout, ...]) -> None:
        """The result took a seat, deep enough in the chain to stay: settle its epoch's points, once. Idempotent."""
        if result_id not in self.book.results:
            self.append(PaidEntry(result_id, epoch, payouts, self.book.debits(epoch)))

    def round_void(self, epoch: int) -> None:
        """No result of the epoch took a seat: its points enter the next table. Idempotent."""
        if epoch in self.book.open_rounds:
            self.append(VoidEntry(epoch))

    # --- views

    def summary(self) -> PoolSummary:
        """The pool as a whole, for the HTTP API."""
        return report.summary(self)

    def member(self, address: bytes) -> MemberSummary | None:
        """One member, for the HTTP API; None where the pool knows nothing of it."""
        return report.member(self, address)

    # --- inside

    def _leasable(self, member: bytes, now: float) -> tuple[Work, Archive]:
        self._check_place(member)
        if self.work is None or self.archive is None or not self.leasing:
            raise NoLease("there is no search open now", "no_work", 5.0)
        if now >= self.work.closes - self.settings.least_seconds:
            raise NoLease("the commits of this epoch are about to close", "closing", max(1.0, self.work.closes - now))
        return self.work, self.archive

    def _check_place(self, member: bytes) -> None:
        reason = self.book.ban_of(member)
        if reason is not None:
            raise NoLease(reason, "banned", 3600.0)

    def _saw(self, member: bytes, worker: bytes, now: float) -> None:
        self.seen.pop((member, worker), None)
        self.seen[member, worker] = now  # the latest stands last

    def _others(self, worker: tuple[bytes, bytes], now: float) -> bool:
        """Whether another worker was heard of lately."""
        latest = next((at for key, at in reversed(self.seen.items()) if key != worker), None)
        return latest is not None and latest > now - self.settings.silence_seconds

    def _check_hoarding(self, member: bytes, mine: int) -> None:
        if mine >= self.settings.leases_per_worker:
            raise NoLease(f"{mine} leases of this worker wait for their shares", "too_many_leases", 5.0)
        held = self.leases.count(member)
        if held >= self.settings.leases_per_member:
            raise NoLease(f"this member holds {held} leases", "too_many_leases", 5.0)

    def _audit_for(self, work: Work, archive: Archive, member: bytes, trained: frozenset[bytes]) -> frozenset[bytes]:
        """At most one architecture that another member trained, and that this one should train too."""
        looked_at, found = [], frozenset[bytes]()
        for genotype in itertools.islice(self.audits.waiting(work.id), _LOOKED_AT):
            looked_at.append(genotype)
            if self.leases.audited(genotype) or genotype in trained:
                continue
            result = archive.get(genotype)
            if (
                result is not None
                and result.finder != member
                and not self.leases.given_up(genotype, self.settings.failures)
            ):
                found = frozenset([genotype])
                break
        self.audits.postpone(work.id, looked_at)
        return found

    def _propose(
        self, archive: Archive, audits: frozenset[bytes], fits: Callable[[Sequence[bytes]], bool]
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """A subspace and architectures of it: `audits` and new ones that fit, in an order that tells nothing."""
        taken = self.leases.taken()
        first = next(iter(audits), None) or self.settings.strategy.propose(archive, taken, self._rng)
        if first is None:
            raise NoLease("no architecture is left that nobody trained or leased", "exhausted", 30.0)
        prefix, genotypes = archive.domain.prefix(first), [first]
        while len(genotypes) < self.settings.lease_size:
            more = self.settings.strategy.propose(archive, Union((taken, genotypes)), self._rng, prefix)
            if more is None or not fits([*genotypes, more]):
                break
            genotypes.append(more)
        if audits:
            self._rng.shuffle(genotypes)
        return prefix, tuple(genotypes)

    def _standing(self, signed: SignedShare) -> Accepted | None:
        """Whether this very result is in the ledger. Raises ShareRefused where it cannot be added."""
        share = signed.share
        reason = self.book.ban_of(share.address)
        if reason is not None:
            raise ShareRefused(reason, "banned")
        for work, _ in reversed(self.archives.values()):
            if (work.epoch, work.task) != (share.epoch, share.task):
                continue
            known = disputes.claims(self, work.id, share.genotype)
            mine = [claim for claim in known if claim.member == share.address]
            if mine and mine[0].leaves == share.leaves:
                return Accepted(share.id, work.points(share.validation_correct))
            if work is self.work and known and (mine or not self._is_audit(share)):
                raise ShareRefused("the pool has a result of this architecture already", "duplicate")
        self._work_of(share)
        checks.check_lease(share, self.leases.held.get(share.lease))
        return None

    def _doubtful(self, share: Share, origin: SignedCheckpoint | None) -> bool:
        """Whether a first result must be checked: it went on from a state of who is not trusted, or contradicts one."""
        uploader = origin.checkpoint.address if origin is not None else share.address
        distrusted = uploader in self.book.refuted or not self.audits.trusts(uploader)
        return (origin is not None and distrusted) or self.relays.contradicted(share)

    def _is_audit(self, share: Share) -> bool:
        """Whether the share's lease asks for a second result."""
        held = self.leases.held_by(share.address, share.lease)
        return held is not None and share.genotype in held.open & held.audits

    def _work_of(self, share: Share) -> Work:
        if self.work is None or (share.epoch, share.task) != (self.work.epoch, self.work.task):
            raise ShareRefused(f"the search of epoch {share.epoch} is over", "stale_work")
        return self.work

    def _keep(self, share: Share, refused: ShareRefused, now: float) -> None:
        self.rejected[refused.code] += 1
        self.rejections.add(share.address, milliseconds(now), share.id, share.genotype, refused.code, clip(refused))

    def _epoch_of(self, candidate: Candidate) -> int:
        for work, archive in reversed(self.archives.values()):
            known = archive.get(candidate.genotype)
            if known is not None and known.leaves == candidate.leaves:
                return work.epoch
        raise PoolFault(f"the pool has no result {candidate.genotype.hex()} with these leaves")

    def _restore(self) -> int:
        """Take over the stored snapshot; answers how many entries of the ledger it stands for."""
        found = snapshot.load(self._storage, self.ledger)
        if found is None:
            return 0
        self.book = snapshot.book_of(found.book)
        self.results.restore(found, self.ledger)
        self._measure()
        return found.size

    def append(self, entry: Entry, more: Writes | None = None) -> None:
        """Write an entry of the ledger and what belongs to it, durably and at once, and take it over."""
        self._apply(self.ledger.append(entry, more), entry)

    def see_best(self) -> None:
        """The best results changed otherwise than by a share."""
        for id, (_, archive) in self.archives.items():
            self.audits.see_best(id, [result.validation_correct for result in archive])

    def write(self, changes: Writes) -> None:
        """Make changes beside the ledger durable."""
        self._storage.write(changes)

    def _apply(self, number: int, entry: Entry) -> None:
        """Take over an entry of the ledger; the only way in which archives and points change."""
        self.book.apply(number, entry)
        if isinstance(entry, WorkEntry):
            self.results.begin(number, entry.work.work)
            self._measure()
        elif isinstance(entry, ShareEntry):
            self.results.add(number, entry.signed.share)
        elif isinstance(entry, VoidedEntry):
            self.results.void(entry.number)
        elif isinstance(entry, RefutedEntry):
            self.results.refute(entry.member)

    def _measure(self) -> None:
        """Leases are measured by what the current search trains."""
        if self.work is None or self.archive is None:
            return
        batch, domain = self.work.spec.batch, self.archive.domain

        @functools.cache
        def cost(genotype: bytes) -> int:
            found = domain.cost(genotype)
            return step_cost(found.macs if found is not None else 0, batch)

        self.leases.cost, self.leases.steps = cost, self.work.spec.steps
