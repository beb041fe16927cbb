"""What a member is owed, recomputed from the ledger's entries about it and the general ones: the member's own sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pool.payouts import lines
from pool.records import (
    ConfirmedEntry,
    ContestedEntry,
    Credit,
    Entry,
    PaidEntry,
    RefutedEntry,
    ResumedEntry,
    RoundEntry,
    ShareEntry,
    Terms,
    TermsEntry,
    VoidedEntry,
    VoidEntry,
    WorkEntry,
)
from pool.searches import Searches

Claim = tuple[int, bytes, tuple[bytes, ...]]
"""Epoch, genotype and leaves of a training."""
CONTESTED = "another member claims another training of this architecture; the pool trains it again to tell who is right"


@dataclass(frozen=True, slots=True)
class OwnRound:
    """A round as it concerns one member: its line, and the window points that the round earns when it pays."""

    entry: RoundEntry
    credit: int
    window: int


@dataclass(slots=True)
class Account:
    """Sums of `member`, an address. `limit` is the most lines of a table on this network.

    `shares` are the credited ones by id, `contested` those that another member's share contradicts, until they are
    credited. `finds` are the trainings that it was the first to hand in; `confirmed` those that another member had
    handed in before, with the numbers of this member's entry and of the other's. `problems` says, in sentences, where
    the ledger gives the member less than its own entries owe it.
    """

    member: bytes
    limit: int
    scored: int = 0
    earned: int = 0
    paid: int = 0
    terms: Terms = field(default_factory=Terms)
    refuted: str | None = None
    lie: bytes | None = None  # the model of the member's share that was refuted
    shares: dict[bytes, tuple[int, ShareEntry]] = field(default_factory=dict)
    contested: dict[bytes, tuple[int, ContestedEntry]] = field(default_factory=dict)
    voided: dict[int, str] = field(default_factory=dict)  # why, by number of the share's entry
    finds: set[Claim] = field(default_factory=set)
    confirmed: dict[Claim, tuple[int, int]] = field(default_factory=dict)
    rounds: dict[int, OwnRound] = field(default_factory=dict)
    payments: list[PaidEntry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _searches: Searches = field(default_factory=Searches)
    _points: list[tuple[int, int]] = field(default_factory=list)  # ledger number and points of own shares
    _open: set[int] = field(default_factory=set)
    _settled: set[int] = field(default_factory=set)

    def replay(self, entries: Iterable[tuple[int, Entry]]) -> None:
        """Take over entries by number, lowest first."""
        for number, entry in entries:
            self._apply(number, entry)

    @property
    def carried(self) -> int:
        """Earned points that no seated result has paid."""
        return self.earned - self.paid

    @property
    def reserved(self) -> int:
        """Earned points in open rounds."""
        listed = [found for epoch in self._open if (found := self.rounds[epoch]).credit]
        return sum(found.credit - found.window for found in listed)

    def _apply(self, number: int, entry: Entry) -> None:
        if isinstance(entry, WorkEntry):
            self._searches.begin(entry.work.work)
        elif isinstance(entry, ShareEntry):
            self._share(number, entry)
        elif isinstance(entry, ContestedEntry):
            self._due(number, entry)
            self.contested[entry.signed.share.id] = number, entry
        elif isinstance(entry, RoundEntry):
            self._round(number, entry)
        elif isinstance(entry, PaidEntry):
            self._pay(number, entry)
        elif isinstance(entry, VoidEntry):
            self._open.discard(entry.epoch)
        elif isinstance(entry, TermsEntry):
            if self.terms.window and not entry.terms.window:
                self.earned += self._window(entry.since, entry.cut)
            self.terms = entry.terms
        elif isinstance(entry, VoidedEntry):
            self._void(number, entry)
        elif isinstance(entry, RefutedEntry) and entry.member == self.member:
            self.earned -= entry.points
            self.refuted, self.lie = entry.reason, entry.share

    def receipt(self, share: bytes) -> int | None:
        """The points that a share earned, or earns once it is decided in its favour; None where it is not there."""
        found = self.shares.get(share) or self.contested.get(share)
        return found[1].points if found is not None else None

    def states(self) -> list[tuple[int, ShareEntry | ContestedEntry, str, str]]:
        """Own shares, latest first, each with its entry's number, its state, and why it is not accepted."""
        mine: list[tuple[int, ShareEntry | ContestedEntry]] = [*self.shares.values(), *self.contested.values()]
        found = []
        for number, entry in sorted(mine, key=lambda pair: -pair[0]):
            if number in self.voided:
                found.append((number, entry, "voided", self.voided[number]))
            elif self.lie == entry.signed.share.model:
                found.append((number, entry, "refuted", self.refuted or ""))
            elif isinstance(entry, ShareEntry):
                found.append((number, entry, "accepted", ""))
            elif self.refuted is not None:
                found.append((number, entry, "refuted", "another share of this member was refuted"))
            else:
                found.append((number, entry, "contested", CONTESTED))
        return found

    def overdue(self) -> list[str]:
        """Contested shares that the pool should have decided by now, in sentences."""
        return [
            f"entry {number}: the share is contested, and the pool never told who is right"
            for number, entry in self.contested.values()
            if self.refuted is None and self._searches.forgotten(entry.signed.share)
        ]

    def _share(self, number: int, entry: ShareEntry) -> None:
        share = entry.signed.share
        points = self._due(number, entry)
        self.contested.pop(share.id, None)
        self.shares.setdefault(share.id, (number, entry))
        claim = share.epoch, share.genotype, share.leaves
        if isinstance(entry, ConfirmedEntry):
            self.confirmed[claim] = number, entry.first
        else:  # perhaps one that was confirmed, and takes the place of a false result now
            self.finds.add(claim)
            self.confirmed.pop(claim, None)
        self.scored += points
        self._points.append((number, points))
        if not self.terms.window:
            self.earned += points

    def _void(self, number: int, entry: VoidedEntry) -> None:
        known = next((share for place, share in self.shares.values() if place == entry.number), None)
        if not isinstance(known, ResumedEntry) or entry.number in self.voided or entry.points > known.points:
            self.problems.append(f"entry {number}: a share was voided that did not go on from another member's state")
            return
        self.voided[entry.number] = entry.reason
        self._points = [pair for pair in self._points if pair[0] != entry.number]
        self.earned -= entry.points

    def _due(self, number: int, entry: ShareEntry | ContestedEntry) -> int:
        """The points that a share is worth."""
        share = entry.signed.share
        work = self._searches.of(share)
        points = entry.points if work is None else work.points(share.validation_correct)
        if share.id in self.shares:  # it earned its points when it came in; now it takes the place of a false result
            points = 0
        if work is None:
            self.problems.append(f"entry {number}: the ledger has no work for the share, epoch {share.epoch}")
        elif entry.points < points:
            self.problems.append(f"entry {number}: the share earned {entry.points} points, not the {points} due to it")
        return points

    def _round(self, number: int, entry: RoundEntry) -> None:
        given = _of(entry.credits, self.member)
        window = self._window(entry.since, entry.cut) if entry.terms.window and self.refuted is None else 0
        owed = 0 if self.refuted is not None else window + self.carried - self.reserved
        where = f"entry {number}, round of epoch {entry.epoch}"
        if entry.terms != self.terms:
            self.problems.append(f"{where}: its terms are not those that were announced")
        if owed >= self.terms.minimum and given < owed and not (given == 0 and self._full(entry, owed)):
            self.problems.append(f"{where}: it carries {given} points for this member, who is owed {owed}")
        self.rounds[entry.epoch] = OwnRound(entry, given, window)
        self._open.add(entry.epoch)

    def _full(self, entry: RoundEntry, owed: int) -> bool:
        """Whether members who are owed as much fill the table."""
        return len(entry.credits) >= lines(self.limit, entry.terms) and all(
            credit.points >= owed for credit in entry.credits
        )

    def _pay(self, number: int, entry: PaidEntry) -> None:
        debit, known = _of(entry.debits, self.member), self.rounds.get(entry.epoch)
        due = known.credit if known is not None and entry.epoch not in self._settled else 0
        if debit > due:
            self.problems.append(f"entry {number}: {debit} points count as paid by epoch {entry.epoch}, not {due}")
        if known is not None and entry.epoch not in self._settled:
            self.earned += known.window
            self.rounds[entry.epoch] = OwnRound(known.entry, known.credit, 0)
        self.paid += min(debit, due)
        self.payments.append(entry)
        self._settled.add(entry.epoch)
        self._open.discard(entry.epoch)

    def _window(self, since: int, cut: int) -> int:
        found = sum(points for number, points in self._points if number >= since)
        return found - (cut if any(number == since for number, _ in self._points) else 0)


def _of(credits: Iterable[Credit], member: bytes) -> int:
    return sum(credit.points for credit in credits if credit.address == member)
