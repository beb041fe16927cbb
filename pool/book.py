"""Who is owed what: points earned, reserved for a round of payout tables, paid, and carried over.

A round is what one epoch's payout tables carry. Its points are reserved when the first table is made, paid once when
a result of the epoch takes a seat, and carried over where none does. For every member, at any time:
earned = paid + carried, where the reserved points are a part of what is carried.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from consensus.split import split
from consensus.types import Payout
from pool.records import Credit, Entry, PaidEntry, RefutedEntry, RoundEntry, ShareEntry, VoidEntry

FINDER_PARTS = 8
"""One part in so many of a result's reward goes to its finder. Source: protocol section 9."""
WEIGHT_MAX = 2**32 - 1
KEPT = 64
"""Rounds and payments that are kept in memory; all of them stay in the ledger."""


class Book:
    """The state that the ledger's entries add up to. Changes only through `apply`."""

    def __init__(self) -> None:
        self.earned: Counter[bytes] = Counter()
        self.paid: Counter[bytes] = Counter()
        self.shares: Counter[bytes] = Counter()
        self.rounds: dict[int, tuple[Credit, ...]] = {}
        self.results: set[bytes] = set()
        self.recent: deque[PaidEntry] = deque(maxlen=KEPT)
        self.banned: set[bytes] = set()
        self._decided: set[int] = set()
        self._settled: set[int] = set()

    def apply(self, entry: Entry) -> None:
        """Take over an entry of the ledger."""
        if isinstance(entry, ShareEntry):
            self.earned[entry.signed.share.address] += entry.points
            self.shares[entry.signed.share.address] += 1
        elif isinstance(entry, RoundEntry):
            self.rounds[entry.epoch] = entry.credits
            self._decided.discard(entry.epoch)
            for epoch in [epoch for epoch in self._decided if epoch < entry.epoch - KEPT]:
                self.rounds.pop(epoch, None)
        elif isinstance(entry, PaidEntry):
            self.results.add(entry.result)
            self.recent.append(entry)
            self._settled.add(entry.epoch)
            self._decided.add(entry.epoch)
            for credit in entry.debits:
                self.paid[credit.address] += credit.points
        elif isinstance(entry, VoidEntry):
            self._decided.add(entry.epoch)
        elif isinstance(entry, RefutedEntry):
            self.earned[entry.member] -= entry.points
            self.banned.add(entry.member)

    def carried(self, address: bytes) -> int:
        """Points that no seated result has paid yet; negative where more was paid than was earned in the end."""
        return self.earned[address] - self.paid[address]

    @property
    def open_rounds(self) -> dict[int, tuple[Credit, ...]]:
        """Rounds that are neither paid nor void, by epoch."""
        return {epoch: credits for epoch, credits in self.rounds.items() if epoch not in self._decided}

    def reserved(self) -> Counter[bytes]:
        """Points in open rounds: in payout tables that may still pay."""
        found: Counter[bytes] = Counter()
        for credits in self.open_rounds.values():
            for credit in credits:
                found[credit.address] += credit.points
        return found

    def due(self, limit: int) -> tuple[Credit, ...]:
        """The `limit` members with the most points that no table carries yet, most first."""
        reserved = self.reserved()
        members = [address for address in self.earned if address not in self.banned]
        owed = [(self.carried(address) - reserved[address], address) for address in members]
        ranked = sorted((-points, address) for points, address in owed if points > 0)
        return tuple(Credit(address, -negative) for negative, address in ranked[:limit])

    def debits(self, epoch: int) -> tuple[Credit, ...]:
        """What a result of `epoch` pays off: the round's points for the first result, nothing for further ones.

        A round that was declared void and is paid after all is still debited: members then owe until they earn more.
        """
        return () if epoch in self._settled else self.rounds.get(epoch, ())


def table(credits: Sequence[Credit], finder: bytes | None, limit: int) -> tuple[Payout, ...]:
    """Payout table: 7/8 by points and 1/8 to the finder; all by points where there is no finder.

    At most `limit` lines. Where no member has points the finder takes all; empty where there is no finder either.
    """
    total = sum(credit.points for credit in credits)
    if not total:
        return (Payout(finder, 1),) if finder is not None else ()
    weights = {credit.address: credit.points for credit in credits[:limit]}
    if finder is not None and (finder in weights or len(weights) < limit):
        weights = {address: points * (FINDER_PARTS - 1) for address, points in weights.items()}
        weights[finder] = weights.get(finder, 0) + total
    if max(weights.values()) > WEIGHT_MAX:
        scaled = split(WEIGHT_MAX, list(weights.values()))
        weights = {address: max(1, weight) for address, weight in zip(weights, scaled, strict=True)}
    return tuple(Payout(address, weight) for address, weight in weights.items())
