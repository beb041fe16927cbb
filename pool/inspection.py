"""The whole ledger, checked entry by entry as anyone can: what the pool may not write, whoever it concerns."""

from __future__ import annotations

from chain.errors import BadSignature
from pool.book import Book
from pool.history import Peaks
from pool.ledger import encode_entry
from pool.payouts import lines
from pool.records import Entry, PaidEntry, RefutedEntry, RoundEntry, ShareEntry, TermsEntry, WorkEntry
from pool.work import Work


class Inspection:
    """Replays a ledger from its first entry. `problems` says in sentences what is wrong; `peaks` gives the root.

    `limit` is the most lines of a payout table on the network.
    """

    def __init__(self, limit: int) -> None:
        self.book = Book()
        self.peaks = Peaks()
        self.problems: list[str] = []
        self._limit = limit
        self._works: dict[tuple[int, bytes], Work] = {}
        self._credited: set[bytes] = set()

    def take(self, entry: Entry) -> None:
        """The next entry."""
        number = self.peaks.size
        wrong = self._wrong(entry)
        if wrong:
            self.problems.append(f"entry {number}: {wrong}")
        self.book.apply(number, entry)
        self.peaks.push(encode_entry(entry))

    def _wrong(self, entry: Entry) -> str:
        book = self.book
        if isinstance(entry, WorkEntry):
            self._works[entry.work.epoch, entry.work.task] = entry.work.work
        elif isinstance(entry, ShareEntry):
            return self._wrong_share(entry)
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

    def _wrong_share(self, entry: ShareEntry) -> str:
        share = entry.signed.share
        try:
            entry.signed.verify()
        except BadSignature:
            return "a share that its member did not sign"
        work = self._works.get((share.epoch, share.task))
        if work is None:
            return "a share of a search that the pool did not have"
        due = 0 if share.id in self._credited else work.points(share.validation_correct)
        self._credited.add(share.id)
        return "" if entry.points == due else f"a share of {due} points that earned {entry.points}"
