"""What is known of a search, and strategies that say what to train next. Shared by the pool and the solo miner."""

from __future__ import annotations

import heapq
import itertools
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

from pool.subspace import Domain
from pool.work import Candidate

ATTEMPTS = 200
"""Tries at a proposal before a strategy gives up on it; most tries succeed, a nearly exhausted subspace's do not."""

COUNTED = 1024
"""Of more leased genotypes than these the places are not counted: with so many, chance spreads them evenly enough."""


class Archive:
    """All results of one work; `domain` is its own.

    `starting_points` are the best genotypes that earlier epochs of the task left.
    """

    def __init__(self, domain: Domain, starting_points: tuple[bytes, ...] = ()) -> None:
        self.domain = domain
        self.starting_points = starting_points
        self._results: dict[bytes, Candidate] = {}
        self._ranks: dict[bytes, tuple[int, int, int]] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, genotype: object) -> bool:
        return genotype in self._results

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._results.values())

    @property
    def coverage(self) -> Counter[bytes]:
        """Number of results in each subspace."""
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
        self._ranks[result.genotype] = (-result.validation_correct, macs, self._added)
        self._added += 1
        self._results[result.genotype] = result
        self.domain.partition.add(result.genotype, result.validation_correct)

    def remove(self, genotype: bytes) -> None:
        """Forget a result that proved wrong, so that the architecture can be trained again."""
        if self._results.pop(genotype, None) is not None:
            del self._ranks[genotype]
            self.domain.partition.remove(genotype)

    def rank(self, genotype: bytes) -> tuple[int, int, int]:
        """Sorts results best first: more correct, fewer MACs, earlier."""
        return self._ranks[genotype]

    def best(self, limit: int) -> list[Candidate]:
        """The best results, best first."""
        best = heapq.nsmallest(limit, self._ranks, key=self._ranks.__getitem__)
        return [self._results[genotype] for genotype in best]

    def recent(self, limit: int) -> list[bytes]:
        """Genotypes of the latest results, latest first."""
        return list(itertools.islice(reversed(self._results), limit))

    def heritage(self, limit: int) -> tuple[bytes, ...]:
        """Starting points for the next epoch of the task: the best here, then what was inherited and not trained."""
        best = [result.genotype for result in self.best(limit)]
        return tuple([*best, *(genotype for genotype in self.starting_points if genotype not in self)][:limit])


class Strategy(ABC):
    """Chooses what to train next."""

    name: ClassVar[str]

    @abstractmethod
    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """A canonical genotype that the task admits, neither in the archive nor `taken`, that starts with `within`.

        None where none was found in a bounded number of tries.
        """


def _fresh(archive: Archive, taken: Collection[bytes], genotype: bytes | None, within: bytes) -> bool:
    return (
        genotype is not None
        and genotype.startswith(within)
        and genotype not in archive
        and genotype not in taken
        and archive.domain.cost(genotype) is not None
    )


@dataclass(frozen=True, slots=True)
class RandomSearch(Strategy):
    """Uniform over the architectures of a subspace, spread evenly over the subspaces."""

    name: ClassVar[str] = "random"

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`. Without `within`, the subspaces with the fewest results and leases come first."""
        for prefix in [within] if within else _by_coverage(archive, taken, rng):
            for _ in range(ATTEMPTS):
                genotype = archive.domain.sample(prefix, rng)
                if _fresh(archive, taken, genotype, prefix):
                    return genotype
        return None


@dataclass(frozen=True, slots=True)
class Evolution(Strategy):
    """Regularised evolution (Real et al., arXiv 1802.01548) that begins stratified over the subspaces.

    First the starting points, then `initial` samples of every subspace, then children of the best of `tournament`
    among the latest `population` results: old results leave the population by age, not by score.
    """

    name: ClassVar[str] = "evolution"
    initial: int = 2
    population: int = 64
    tournament: int = 12

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        for genotype in archive.starting_points:
            if _fresh(archive, taken, genotype, within):
                return genotype
        if len(archive) and self._stratified(archive, taken):
            child = self._child(archive, taken, rng, within)
            if child is not None:
                return child
        return RandomSearch().propose(archive, taken, rng, within)

    def _stratified(self, archive: Archive, taken: Collection[bytes]) -> bool:
        """Whether the first phase is over. Counting all results lets subspaces that admit little not hold it up."""
        return len(archive) + len(taken) >= self.initial * len(archive.domain.prefixes)

    def _child(self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes) -> bytes | None:
        population = archive.recent(self.population)
        if within:
            population = [genotype for genotype in population if genotype.startswith(within)]
        if not population:
            return None
        for _ in range(ATTEMPTS // 10):
            parents = rng.sample(population, min(self.tournament, len(population)))
            genotype = archive.domain.space.mutate(min(parents, key=archive.rank), rng)
            if _fresh(archive, taken, genotype, within):
                return genotype
        return None


STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (RandomSearch(), Evolution())}


def _by_coverage(archive: Archive, taken: Collection[bytes], rng: random.Random) -> list[bytes]:
    counts = Counter(archive.coverage)
    if len(taken) <= COUNTED:
        counts.update(archive.domain.prefix(genotype) for genotype in taken)
    order = list(archive.domain.prefixes)
    rng.shuffle(order)
    return sorted(order, key=lambda prefix: (archive.domain.barren(prefix), counts[prefix]))
