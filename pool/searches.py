"""The searches that a ledger tells of, in their order, for whoever replays it."""

from __future__ import annotations

from pool.records import Share
from pool.work import Work

KEPT = 8
"""A pool remembers the results of so many searches, and decides a contested share before it forgets the search."""


class Searches:
    """Begin them in the order of the ledger."""

    def __init__(self) -> None:
        self._named: dict[tuple[int, bytes], Work] = {}
        self._latest: dict[bytes, None] = {}

    def begin(self, work: Work) -> bytes | None:
        """A search begins, or goes on. Answers the id of the search that the pool forgets for it, if there is one."""
        self._named[work.epoch, work.task] = work
        self._latest.pop(work.id, None)
        self._latest[work.id] = None
        if len(self._latest) <= KEPT:
            return None
        oldest = next(iter(self._latest))
        del self._latest[oldest]
        return oldest

    def of(self, share: Share) -> Work | None:
        """The search of a share; None where there was none."""
        return self._named.get((share.epoch, share.task))

    def forgotten(self, share: Share) -> bool:
        """Whether the search of a share is so long ago that nothing of it can be decided any more."""
        work = self.of(share)
        return work is None or work.id not in self._latest
