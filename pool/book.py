"""Who is owed what: points earned, reserved for a round of payout tables, paid, and carried over.

A round is what one epoch's payout tables carry. Its points are reserved when the first table is made, paid once when
a result of the epoch takes a seat, and carried over where none does. For every member, at any time:
earned = paid + carried, where the reserved points are a part of what is carried. Points of a scheme's window are
earned only when a round pays them. A contested share earns nothing until it is credited as any other.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from pool.records import (
    BanEntry,
    ContestedEntry,
    Credit,
    Entry,
    PaidEntry,
    RefutedEntry,
    RoundEntry,
    ShareEntry,
    Terms,
    TermsEntry,
    VoidedEntry,
    VoidEntry,
)
from pool.schemes import Scheme, Scored, make_scheme

KEPT = 64
"""Rounds and payments that are kept in memory; all of them stay in the ledger."""


@dataclass(frozen=True, slots=True)
class Round:
    """What an epoch's tables carry. `window` are the points that it earns when it pays, empty once it has."""

    credits: tuple[Credit, ...]
    terms: Terms
    window: Counter[bytes]

    def reserved(self) -> Counter[bytes]:
        """Earned points that the tables carry; window points are not earned yet."""
        return Counter({credit.address: credit.points - self.window[credit.address] for credit in self.credits})


class Book:
    """The state that the ledger's entries add up to. Changes only through `apply`."""

    def __init__(self) -> None:
        self.terms = Terms()
        self.scheme: Scheme = make_scheme(self.terms)
        self.scored: Counter[bytes] = Counter()
        self.earned: Counter[bytes] = Counter()
        self.paid: Counter[bytes] = Counter()
        self.shares: Counter[bytes] = Counter()
        self.rounds: dict[int, Round] = {}
        self.results: set[bytes] = set()
        self.recent: deque[PaidEntry] = deque(maxlen=KEPT)
        self.refuted: dict[bytes, RefutedEntry] = {}
        self.contested: dict[bytes, Credit] = {}  # by share id: what those that are not credited would earn
        self.voided: dict[int, VoidedEntry] = {}  # by number of the share's entry
        self.shut_out: dict[bytes, str] = {}
        self.decided: set[int] = set()
        self.settled: set[int] = set()

    def apply(self, number: int, entry: Entry) -> None:
        """Take over entry `number` of the ledger."""
        if isinstance(entry, ShareEntry):
            self._share(number, entry)
        elif isinstance(entry, RoundEntry):
            self.rounds[entry.epoch] = Round(entry.credits, entry.terms, self._window())
            self.decided.discard(entry.epoch)
            for epoch in [epoch for epoch in self.decided if epoch < entry.epoch - KEPT]:
                self.rounds.pop(epoch, None)
        elif isinstance(entry, PaidEntry):
            self._pay(entry)
        elif isinstance(entry, VoidEntry):
            self.decided.add(entry.epoch)
        elif isinstance(entry, RefutedEntry):
            self.earned[entry.member] -= entry.points
            self.refuted.setdefault(entry.member, entry)
        elif isinstance(entry, VoidedEntry):
            self.earned[entry.member] -= entry.points
            self.scheme.drop(entry.number)
            self.voided[entry.number] = entry
        elif isinstance(entry, ContestedEntry):
            share = entry.signed.share
            self.contested[share.id] = Credit(share.address, entry.points)
        elif isinstance(entry, TermsEntry):
            self._change(entry.terms)
        elif isinstance(entry, BanEntry):
            if entry.banned:
                self.shut_out[entry.member] = entry.reason
            else:
                self.shut_out.pop(entry.member, None)

    def carried(self, address: bytes) -> int:
        """Points that no seated result has paid yet; negative where more was paid than was earned in the end."""
        return self.earned[address] - self.paid[address]

    @property
    def open_rounds(self) -> dict[int, Round]:
        """Rounds that are neither paid nor void, by epoch."""
        return {epoch: found for epoch, found in self.rounds.items() if epoch not in self.decided}

    def reserved(self) -> Counter[bytes]:
        """Earned points in open rounds: in payout tables that may still pay."""
        found: Counter[bytes] = Counter()
        for open_round in self.open_rounds.values():
            found.update(open_round.reserved())
        return found

    def owed(self) -> Counter[bytes]:
        """Points by member that a table made now would carry, had it room for everybody. None for the refuted."""
        found = self._window()
        found.update(self.earned)
        found.subtract(self.paid)
        found.subtract(self.reserved())
        return Counter({
            address: points for address, points in found.items() if points > 0 and address not in self.refuted
        })  # fmt: skip

    def undecided(self, address: bytes) -> int:
        """Points of a member's contested shares; none once it was refuted."""
        if address in self.refuted:
            return 0
        return sum(credit.points for credit in self.contested.values() if credit.address == address)

    def withdrawable(self, address: bytes, points: int) -> int:
        """How many of the `points` of a share that is voided its member loses: those of a window are not earned yet,
        and what a table carries already stays."""
        free = self.carried(address) - self.reserved()[address]
        return 0 if self.terms.window else max(0, min(points, free))

    def due(self, limit: int) -> tuple[Credit, ...]:
        """The `limit` members with the most points that no table carries yet, most first; none below the minimum."""
        owed = self.owed().items()
        ranked = sorted((-points, address) for address, points in owed if points >= self.terms.minimum)
        return tuple(Credit(address, -negative) for negative, address in ranked[:limit])

    def ban_of(self, address: bytes) -> str | None:
        """Why a member gets no work and no points any more; None where it does."""
        if address in self.refuted:
            return f"a share of this member was refuted by replaying it: {self.refuted[address].reason}"
        if address in self.shut_out:
            return f"the operator banned this member: {self.shut_out[address]}"
        return None

    def debits(self, epoch: int) -> tuple[Credit, ...]:
        """What a result of `epoch` pays off: the round's points for the first result, nothing for further ones.

        A round that was declared void and is paid after all is still debited: members then owe until they earn more.
        """
        return () if epoch in self.settled or epoch not in self.rounds else self.rounds[epoch].credits

    def _window(self) -> Counter[bytes]:
        points = self.scheme.window().items()
        return Counter({address: count for address, count in points if address not in self.refuted})

    def _share(self, number: int, entry: ShareEntry) -> None:
        address = entry.signed.share.address
        if self.contested:
            self.contested.pop(entry.signed.share.id, None)
        self.scored[address] += entry.points
        self.shares[address] += 1
        self.earned[address] += self.scheme.add(Scored(number, address, entry.points))

    def _pay(self, entry: PaidEntry) -> None:
        found = self.rounds.get(entry.epoch)
        if found is not None and entry.epoch not in self.settled:
            self.earned.update(found.window)
            self.rounds[entry.epoch] = Round(found.credits, found.terms, Counter())
        for credit in entry.debits:
            self.paid[credit.address] += credit.points
        self.results.add(entry.result)
        self.recent.append(entry)
        self.settled.add(entry.epoch)
        self.decided.add(entry.epoch)

    def _change(self, terms: Terms) -> None:
        """New terms. A window of another size takes over the shares; a window that is given up is earned whole."""
        window, works = self._window(), self.scheme.works()
        self.terms, self.scheme = terms, make_scheme(terms)
        if terms.window:
            for work in works:
                self.scheme.add(work)
        else:
            self.earned.update(window)
