"""All results of one search."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pool.subspace import Domain
from pool.work import Candidate

TOP = 64
"""The best results that an archive keeps in order."""
Rank = tuple[int, int, int]
"""(-correct, MACs, order): less is better."""


class Archive:
    """All results of one work; `domain` is its own.

    `starting_points` are the best genotypes that earlier epochs of the task left.

    `cache` holds what strategies worked out from the results, by strategy, and may be lost at any time; `removals`
    counts results that were taken away again.
    """

    def __init__(self, domain: Domain, starting_points: tuple[bytes, ...] = ()) -> None:
        self.domain = domain
        self.starting_points = starting_points
        self.cache: dict[object, Any] = {}
        self.removals = 0
        self._results: dict[bytes, Candidate] = {}
        self._ranks: dict[bytes, Rank] = {}
        self._top: list[tuple[Rank, bytes]] = []  # the best, sorted
        self._added = 0

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, genotype: object) -> bool:
        return genotype in self._results

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._results.values())

    @property
    def coverage(self) -> Counter[bytes]:
        """Number of results in each subspace, counted anew."""
        return Counter({prefix: len(leaf.results) for prefix, leaf in self.domain.partition.leaves.items()})

    def get(self, genotype: bytes) -> Candidate | None:
        """The result of an architecture, if there is one."""
        return self._results.get(genotype)

    def add(self, result: Candidate) -> None:
        """Record a result; the first one of an architecture stands."""
        if result.genotype in self._results:
            return
        cost = self.domain.cost(result.genotype)
        macs = cost.macs if cost is not None else 1 << 64
        rank = self._ranks[result.genotype] = (-result.validation_correct, macs, self._added)
        self._added += 1
        self._results[result.genotype] = result
        if len(self._top) < TOP or rank < self._top[-1][0]:
            bisect.insort(self._top, (rank, result.genotype))
            del self._top[TOP:]
        self.domain.partition.add(result.genotype, result.validation_correct)

    def remove(self, genotype: bytes) -> None:
        """Forget a result that proved wrong, so that the architecture can be trained again."""
        if self._results.pop(genotype, None) is not None:
            rank = self._ranks.pop(genotype)
            if self._top and rank <= self._top[-1][0]:
                self._top = heapq.nsmallest(TOP, ((rank, other) for other, rank in self._ranks.items()))
            self.removals += 1
            self.domain.partition.remove(genotype)

    def rank(self, genotype: bytes) -> Rank:
        """Sorts results best first: more correct, fewer MACs, earlier."""
        return self._ranks[genotype]

    def best(self, limit: int) -> list[Candidate]:
        """The best results, best first. Up to `TOP` of them cost no search."""
        if limit <= TOP:
            return [self._results[genotype] for _, genotype in self._top[:limit]]
        best = heapq.nsmallest(limit, self._ranks, key=self._ranks.__getitem__)
        return [self._results[genotype] for genotype in best]

    def genotypes(self) -> Iterator[bytes]:
        """Genotypes of all results, earliest first."""
        return iter(self._results)

    def recent(self, limit: int) -> list[bytes]:
        """Genotypes of the latest results, latest first."""
        return list(itertools.islice(reversed(self._results), limit))

    def heritage(self, limit: int) -> tuple[bytes, ...]:
        """Starting points for the next epoch of the task: the best here, then what was inherited and not trained."""
        best = [result.genotype for result in self.best(limit)]
        return tuple([*best, *(genotype for genotype in self.starting_points if genotype not in self)][:limit])
