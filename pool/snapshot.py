"""Snapshots: the pool's state after so many entries of its ledger, so that a start need not replay them all.

A snapshot counts only where its hash is right and its root is that of the ledger's tree at its size; otherwise the
ledger is replayed whole. Results of the searches are named by the ledger entries that they came from.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from chain.encoding import U64, Address, Hash, Record, Size
from chain.errors import BadEncoding
from chain.hashing import digest
from consensus.types import Genotype
from pool.book import Book, Round
from pool.ledger import Ledger
from pool.records import Credit, PaidEntry, Points, Reason, RefutedEntry, Terms, VoidedEntry, WorkRecord
from pool.schemes import Scored, make_scheme
from pool.storage import Storage

log = logging.getLogger(__name__)
KEY = b"S"
_MANY = Size(0, 1 << 24)
_MOST_BYTES = 1 << 31
Genotypes = Annotated[tuple[Genotype, ...], Size(0, 1 << 16)]


@dataclass(frozen=True, slots=True)
class MemberState(Record):
    """A member's sums."""

    address: Address
    scored: Points
    earned: Points
    paid: Points
    shares: U64


@dataclass(frozen=True, slots=True)
class WindowShare(Record):
    """A share in the window of a payout scheme."""

    number: U64
    address: Address
    points: Points


@dataclass(frozen=True, slots=True)
class RoundState(Record):
    """A round of payout tables."""

    epoch: U64
    credits: Annotated[tuple[Credit, ...], _MANY]
    terms: Terms
    window: Annotated[tuple[Credit, ...], _MANY]


@dataclass(frozen=True, slots=True)
class ShutOut(Record):
    """A member that the operator banned."""

    member: Address
    reason: Reason


@dataclass(frozen=True, slots=True)
class Contested(Record):
    """A contested share that is not credited, by its id, and what it would earn."""

    share: Hash
    credit: Credit


@dataclass(frozen=True, slots=True)
class BookState(Record):
    """A `Book`."""

    terms: Terms
    window: Annotated[tuple[WindowShare, ...], _MANY]
    members: Annotated[tuple[MemberState, ...], _MANY]
    rounds: Annotated[tuple[RoundState, ...], _MANY]
    results: Annotated[tuple[Hash, ...], _MANY]
    recent: Annotated[tuple[PaidEntry, ...], Size(0, 1 << 10)]
    refuted: Annotated[tuple[RefutedEntry, ...], _MANY]
    contested: Annotated[tuple[Contested, ...], _MANY]
    voided: Annotated[tuple[VoidedEntry, ...], _MANY]
    shut_out: Annotated[tuple[ShutOut, ...], _MANY]
    decided: Annotated[tuple[U64, ...], _MANY]
    settled: Annotated[tuple[U64, ...], _MANY]


@dataclass(frozen=True, slots=True)
class ArchiveState(Record):
    """The archive of one work: the ledger entries of its results, in order."""

    work: WorkRecord
    starting_points: Genotypes
    entries: Annotated[tuple[U64, ...], _MANY]


@dataclass(frozen=True, slots=True)
class Heritage(Record):
    """What earlier epochs of a task left."""

    task: Hash
    genotypes: Genotypes


@dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """State after `size` entries. The last archive is the one of the current work, which entry `began` began."""

    size: U64
    root: Hash
    began: U64
    book: BookState
    archives: Annotated[tuple[ArchiveState, ...], _MANY]
    heritage: Annotated[tuple[Heritage, ...], _MANY]


def save(storage: Storage, snapshot: Snapshot) -> None:
    """Replace the stored snapshot."""
    data = snapshot.encode()
    storage.put(KEY, digest("ponas/pool-snapshot", data) + data)


def load(storage: Storage, ledger: Ledger) -> Snapshot | None:
    """The stored snapshot, if there is one that belongs to `ledger`."""
    value = storage.get(KEY)
    if value is None:
        return None
    try:
        if digest("ponas/pool-snapshot", value[32:]) != value[:32]:
            raise BadEncoding("its hash is another")
        found = Snapshot.decode(value[32:], _MOST_BYTES)
    except BadEncoding as error:
        log.warning("the snapshot of the pool's state is of no use, the whole ledger is replayed: %s", error)
        return None
    if found.size > len(ledger) or ledger.history.root(found.size) != found.root:
        log.warning("the snapshot of the pool's state is of another ledger; the whole ledger is replayed")
        return None
    return found


def state_of(book: Book) -> BookState:
    """`book` as a record."""
    counters = (book.scored, book.earned, book.paid, book.shares)
    members = sorted(set().union(*counters))
    return BookState(
        terms=book.terms,
        window=tuple(WindowShare(*work) for work in book.scheme.works()),
        members=tuple(MemberState(address, *(counter[address] for counter in counters)) for address in members),
        rounds=tuple(
            RoundState(epoch, found.credits, found.terms, _credits(found.window))
            for epoch, found in book.rounds.items()
        ),
        results=tuple(sorted(book.results)),
        recent=tuple(book.recent),
        refuted=tuple(book.refuted.values()),
        contested=tuple(Contested(share, credit) for share, credit in book.contested.items()),
        voided=tuple(book.voided.values()),
        shut_out=tuple(ShutOut(member, reason) for member, reason in book.shut_out.items()),
        decided=tuple(sorted(book.decided)),
        settled=tuple(sorted(book.settled)),
    )


def book_of(state: BookState) -> Book:
    """The book that `state` describes."""
    book = Book()
    book.terms, book.scheme = state.terms, make_scheme(state.terms)
    for share in state.window:
        book.scheme.add(Scored(share.number, share.address, share.points))
    for member in state.members:
        book.scored[member.address] = member.scored
        book.earned[member.address] = member.earned
        book.paid[member.address] = member.paid
        book.shares[member.address] = member.shares
    for found in state.rounds:
        window = Counter({credit.address: credit.points for credit in found.window})
        book.rounds[found.epoch] = Round(found.credits, found.terms, window)
    book.results.update(state.results)
    book.recent.extend(state.recent)
    book.refuted = {entry.member: entry for entry in state.refuted}
    book.contested = {found.share: found.credit for found in state.contested}
    book.voided = {entry.number: entry for entry in state.voided}
    book.shut_out = {entry.member: entry.reason for entry in state.shut_out}
    book.decided.update(state.decided)
    book.settled.update(state.settled)
    return book


def _credits(points: Counter[bytes]) -> tuple[Credit, ...]:
    return tuple(Credit(address, count) for address, count in sorted(points.items()) if count)
