"""The whole ledger, checked entry by entry as anyone can: what the pool may not write, whoever it concerns."""

from __future__ import annotations

from chain.errors import BadSignature
from chain.hashing import digest
from pool.book import Book
from pool.history import Peaks
from pool.ledger import encode_entry
from pool.payouts import lines
from pool.records import (
    ConfirmedEntry,
    ContestedEntry,
    Entry,
    PaidEntry,
    RefutedEntry,
    ResumedEntry,
    RoundEntry,
    Share,
    ShareEntry,
    TermsEntry,
    VoidedEntry,
    WorkEntry,
)
from pool.searches import Searches


class Inspection:
    """Replays a ledger from its first entry. `problems` says in sentences what is wrong; `peaks` gives the root.

    `limit` is the most lines of a payout table on the network.
    """

    def __init__(self, limit: int) -> None:
        self.book = Book()
        self.peaks = Peaks()
        self.problems: list[str] = []
        self._limit = limit
        self._searches = Searches()
        self._credited: set[bytes] = set()
        self._contested: dict[bytes, tuple[int, Share]] = {}
        self._resumed: dict[int, ResumedEntry] = {}  # those that were not voided, by number
        self._claims: dict[bytes, dict[bytes, list[tuple[bytes, bytes, int]]]] = {}  # member, leaves, latest entry

    def take(self, entry: Entry) -> None:
        """The next entry."""
        number = self.peaks.size
        wrong = self._wrong(entry)
        if wrong:
            self.problems.append(f"entry {number}: {wrong}")
        if isinstance(entry, ContestedEntry):
            self._contested[entry.signed.share.id] = number, entry.signed.share
        elif isinstance(entry, ResumedEntry):
            self._resumed[number] = entry
        self.book.apply(number, entry)
        self.peaks.push(encode_entry(entry))

    def overdue(self) -> list[str]:
        """Contested shares that the pool should have decided by now, in sentences."""
        return [
            f"entry {number}: the pool never told who is right about a contested share"
            for id, (number, share) in self._contested.items()
            if id in self.book.contested and share.address not in self.book.refuted and self._searches.forgotten(share)
        ]

    def _wrong(self, entry: Entry) -> str:
        book = self.book
        if isinstance(entry, WorkEntry):
            forgotten = self._searches.begin(entry.work.work)
            if forgotten is not None:
                self._claims.pop(forgotten, None)
        elif isinstance(entry, ShareEntry | ContestedEntry):
            return self._wrong_share(entry) or (self._wrong_origin(entry) if isinstance(entry, ResumedEntry) else "")
        elif isinstance(entry, VoidedEntry):
            return self._wrong_void(entry)
        elif isinstance(entry, RoundEntry):
            if entry.terms != book.terms or (entry.since, entry.cut) != book.scheme.since:
                return "a round under other terms, or of another window"
            if entry.credits != book.due(lines(self._limit, entry.terms)):
                return "a round that does not carry what is owed"
        elif isinstance(entry, PaidEntry):
            if entry.debits != book.debits(entry.epoch):
                return "a payment that settles other points than its round's"
        elif isinstance(entry, TermsEntry):
            if (entry.since, entry.cut) != book.scheme.since:
                return "new terms that give up another window"
        elif isinstance(entry, RefutedEntry) and entry.points > max(0, book.carried(entry.member)):
            return "a member forfeits more than it was owed"
        return ""

    def _wrong_share(self, entry: ShareEntry | ContestedEntry) -> str:
        share = entry.signed.share
        try:
            entry.signed.verify()
        except BadSignature:
            return "a share that its member did not sign"
        work = self._searches.of(share)
        if work is None:
            return "a share of a search that the pool did not have"
        contradicts = self._contradicts(work.id, share)
        known, due = share.id in self._credited, work.points(share.validation_correct)
        if isinstance(entry, ContestedEntry):
            if known or share.id in self._contested:
                return "a share was set aside that the ledger has already"
            if not contradicts:
                return "a share was set aside that contradicts no other"
            return "" if entry.points == due else f"a contested share of {due} points that would earn {entry.points}"
        self._credited.add(share.id)
        if contradicts:
            return "a share was credited that contradicts another one"
        if isinstance(entry, ConfirmedEntry):
            claims = {number: claim for *claim, number in self._claims[work.id][share.genotype]}
            mine, first = _claim(share), claims.get(entry.first)
            if first is None or first[0] == mine[0] or first[1] != mine[1]:
                return "a share was credited as the second of a training that nobody else had handed in"
        due = 0 if known else due
        return "" if entry.points == due else f"a share of {due} points that earned {entry.points}"

    def _wrong_origin(self, entry: ResumedEntry) -> str:
        share, checkpoint = entry.signed.share, entry.checkpoint.checkpoint
        try:
            entry.checkpoint.verify()
        except BadSignature:
            return "a checkpoint that its member did not sign"
        of_one = (checkpoint.epoch, checkpoint.task, checkpoint.genotype) == (share.epoch, share.task, share.genotype)
        if not of_one or share.leaves[: len(checkpoint.leaves)] != checkpoint.leaves:
            return "a share that did not go on from the checkpoint that it names"
        return "a share that went on from its own member's checkpoint" if checkpoint.address == share.address else ""

    def _wrong_void(self, entry: VoidedEntry) -> str:
        known = self._resumed.pop(entry.number, None)
        if known is None or known.signed.share.address != entry.member:
            return "a share was voided that did not go on from another member's state"
        share, uploader = known.signed.share, known.checkpoint.checkpoint.address
        if uploader not in self.book.refuted:
            return "a share was voided whose origin was not refuted"
        work = self._searches.of(share)
        said = self._claims.get(work.id, {}).get(share.genotype, []) if work is not None else []
        said[:] = [claim for claim in said if claim[0] != entry.member]
        due = self.book.withdrawable(entry.member, known.points)
        return "" if entry.points == due else f"a voided share took {entry.points} points, not {due}"

    def _contradicts(self, work: bytes, share: Share) -> bool:
        """Whether a credited share of a member that is not refuted claims other leaves. Else keeps this claim."""
        said = self._claims.setdefault(work, {}).setdefault(share.genotype, [])
        mine = _claim(share)
        found = any(leaves != mine[1] and member not in self.book.refuted for member, leaves, _ in said)
        if not found:
            said[:] = [*(claim for claim in said if claim[:2] != mine), (*mine, self.peaks.size)]
        return found


def _claim(share: Share) -> tuple[bytes, bytes]:
    """Who says what of a training."""
    return share.address, digest("ponas/pool-claim", *share.leaves)[:16]
