"""The pool's append-only ledger: numbered entries, from which everything that is owed can be recomputed.

A Merkle tree over the entries proves to a member that an entry is in it, and that nothing was taken back. Two kinds of
index find entries without a scan: those about one member, and the general ones (subject b""), which concern everybody.
"""

from __future__ import annotations

from collections.abc import Iterator

from chain.errors import BadEncoding
from chain.hashing import EMPTY
from pool.errors import PoolFault
from pool.history import History
from pool.records import KIND, KINDS, BanEntry, ContestedEntry, Entry, RefutedEntry, ShareEntry, VoidedEntry
from pool.storage import Storage, Writes

PREFIX = b"L"
HEAD = b"H"
MOST_BYTES = 1 << 24
_COUNT, _INDEX = b"n", b"i"


class Ledger:
    """Entries in order. An entry, the tree, the indexes, and what else belongs to it go in one synced batch."""

    def __init__(self, storage: Storage) -> None:
        """Raises PoolFault where the stored head is not that of the stored tree."""
        self._storage = storage
        self.history = History(storage, self.raw)
        head = storage.get(HEAD) or bytes(8) + EMPTY
        self._edge, self.root = self.history.edge(int.from_bytes(head[:8], "big")), head[8:]
        self._counts: dict[bytes, int] = {}  # of subjects that were appended to, as the storage has them
        if self._edge.root() != self.root:
            raise PoolFault("the root of the pool's ledger is not that of its entries")

    def __len__(self) -> int:
        return self._edge.size

    def append(self, entry: Entry, more: Writes | None = None) -> int:
        """Write an entry, and the changes that belong to it, durably and at once. Answers its number."""
        number, data = len(self), encode_entry(entry)
        edge = self._edge.copy()
        nodes, root = edge.push(data), edge.root()
        subject = subject_of(entry)
        seen = self.count(subject)
        index: Writes = [
            (_INDEX + subject + seen.to_bytes(8, "big"), number.to_bytes(8, "big")),
            (_COUNT + subject, (seen + 1).to_bytes(8, "big")),
        ]
        head = edge.size.to_bytes(8, "big") + root
        self._storage.write([(_key(number), data), *nodes, *index, (HEAD, head), *(more or [])])
        self._edge, self.root = edge, root
        self._counts[subject] = seen + 1
        return number

    def raw(self, number: int) -> bytes:
        """Bytes of an entry. Raises PoolFault where it is missing."""
        found = self._storage.get(_key(number))
        if found is None:
            raise PoolFault(f"the pool's ledger has no entry {number}")
        return found

    def entry(self, number: int) -> Entry:
        """One entry. Raises PoolFault where it is missing or damaged."""
        try:
            return decode_entry(self.raw(number))
        except BadEncoding as error:
            raise PoolFault(f"entry {number} of the pool's ledger is damaged: {error}") from error

    def replay(self, start: int = 0) -> Iterator[tuple[int, Entry]]:
        """Entries from number `start` on. Raises PoolFault where one is missing or damaged."""
        for number in range(start, len(self)):
            yield number, self.entry(number)

    def count(self, subject: bytes) -> int:
        """How many entries there are about a member (an address), or general ones (b"")."""
        known = self._counts.get(subject)
        return known if known is not None else int.from_bytes(self._storage.get(_COUNT + subject) or b"", "big")

    def page(self, subject: bytes, before: int | None, limit: int) -> list[int]:
        """Numbers of at most `limit` entries of `subject`, latest first, from its `before`-th one down."""
        end = self.count(subject) if before is None else min(before, self.count(subject))
        found = [self._storage.get(_INDEX + subject + i.to_bytes(8, "big")) for i in range(max(0, end - limit), end)]
        return [int.from_bytes(number or b"", "big") for number in reversed(found)]


def subject_of(entry: Entry) -> bytes:
    """Address of the member that an entry is about; empty for a general one."""
    if isinstance(entry, ShareEntry | ContestedEntry):
        return entry.signed.share.address
    return entry.member if isinstance(entry, RefutedEntry | BanEntry | VoidedEntry) else b""


def encode_entry(entry: Entry) -> bytes:
    """An entry as the ledger keeps it: one byte for its kind, then the record."""
    return bytes([KIND[type(entry)]]) + entry.encode()


def decode_entry(data: bytes) -> Entry:
    """Parse an entry. Raises BadEncoding."""
    if not data or data[0] >= len(KINDS):
        raise BadEncoding("no kind of ledger entry")
    return KINDS[data[0]].decode(data[1:], MOST_BYTES)


def _key(number: int) -> bytes:
    return PREFIX + number.to_bytes(8, "big")
