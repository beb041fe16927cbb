"""Payout schemes: when a share's points become earned, and which points the next table carries beside the earned ones.

Every scheme keeps earned = paid + carried. A scheme that pays from a window lets a round earn its window when it pays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from pool.records import Terms

EMPTY = (1 << 63, 0)
"""Where an empty window begins: behind all shares."""


class Scored(NamedTuple):
    """The points of one share: its number in the ledger, its member."""

    number: int
    address: bytes
    points: int


class Scheme(ABC):
    """What distinguishes one way to pay members from another."""

    @abstractmethod
    def add(self, work: Scored) -> int:
        """Take over a share; answers how many points it earns at once."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """The share of ledger entry `number` was voided: rounds made from now on do not pay it."""

    @abstractmethod
    def window(self) -> Counter[bytes]:
        """Points by member that a round made now pays, and that it earns when it does."""

    @property
    @abstractmethod
    def since(self) -> tuple[int, int]:
        """Number of the window's first share, and how many of its points lie outside."""

    @abstractmethod
    def works(self) -> Iterable[Scored]:
        """The shares of the window, oldest first, for a snapshot."""


class Proportional(Scheme):
    """R_i = P_i / sum(P) * R_total: every point is earned at once, and is paid once."""

    def add(self, work: Scored) -> int:
        """See `Scheme`."""
        return work.points

    def drop(self, number: int) -> None:
        """See `Scheme`."""

    def window(self) -> Counter[bytes]:
        """See `Scheme`."""
        return Counter()

    @property
    def since(self) -> tuple[int, int]:
        """See `Scheme`."""
        return EMPTY

    def works(self) -> Iterable[Scored]:
        """See `Scheme`."""
        return ()


class Pplns(Scheme):
    """Pay per last N points: every round pays the last `size` points of work, whether or not earlier ones did.

    The oldest share counts in part where the window cuts it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._works: deque[Scored] = deque()
        self._totals: Counter[bytes] = Counter()
        self._sum = 0

    def add(self, work: Scored) -> int:
        """See `Scheme`."""
        if work.points:
            self._works.append(work)
            self._totals[work.address] += work.points
            self._sum += work.points
            while self._sum - self._works[0].points >= self._size:
                old = self._works.popleft()
                self._totals[old.address] -= old.points
                self._sum -= old.points
                if not self._totals[old.address]:
                    del self._totals[old.address]
        return 0

    def drop(self, number: int) -> None:
        """See `Scheme`."""
        works = [work for work in self._works if work.number != number]
        self._works.clear()
        self._totals.clear()
        self._sum = 0
        for work in works:
            self.add(work)

    def window(self) -> Counter[bytes]:
        """See `Scheme`."""
        found = Counter(self._totals)
        if self._works:
            found[self._works[0].address] -= self.since[1]
        return found

    @property
    def since(self) -> tuple[int, int]:
        """See `Scheme`."""
        return (self._works[0].number, max(0, self._sum - self._size)) if self._works else EMPTY

    def works(self) -> Iterable[Scored]:
        """See `Scheme`."""
        return self._works


SCHEMES = ("proportional", "pplns")


def make_scheme(terms: Terms) -> Scheme:
    """The scheme that `terms` name, with nothing in it. Raises ValueError for terms that do not fit together."""
    check_terms(terms)
    return Pplns(terms.window) if terms.scheme == "pplns" else Proportional()


def check_terms(terms: Terms) -> None:
    """Raise ValueError where the operator's choices do not fit together."""
    if terms.scheme not in SCHEMES:
        raise ValueError(f"there is no payout scheme {terms.scheme!r}; choose one of {', '.join(SCHEMES)}")
    if (terms.scheme == "pplns") != bool(terms.window):
        raise ValueError("pplns needs a window of at least 1 point, and only pplns has a window")
    if bool(terms.fee) != any(terms.operator):
        raise ValueError("a fee needs the operator's address, and only a fee does")
