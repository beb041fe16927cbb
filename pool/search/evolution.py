"""Regularised evolution."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from pool.search.archive import Archive
from pool.search.strategy import ATTEMPTS, Strategy, fresh, inherited, stratified


@dataclass(frozen=True, slots=True)
class Evolution(Strategy):
    """Regularised evolution (Real et al., arXiv 1802.01548) that begins stratified over the subspaces.

    First the starting points, then `initial` samples of every subspace, then children of the best of `tournament`
    among the latest `population` results: old results leave the population by age, not by score. A child that
    someone trains already is mutated again: where many search, all that is next to the best is soon taken.
    """

    name: ClassVar[str] = "evolution"
    initial: int = 2
    population: int = 64
    tournament: int = 12

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        first = inherited(archive, taken, within)
        if first is not None:
            return first
        if len(archive) and self._begun(archive, taken):
            child = self._child(archive, taken, rng, within)
            if child is not None:
                return child
        return stratified(archive, taken, rng, within)

    def _begun(self, archive: Archive, taken: Collection[bytes]) -> bool:
        """Whether the first phase is over. Counting all results lets subspaces that admit little not hold it up."""
        return len(archive) + len(taken) >= self.initial * len(archive.domain.prefixes)

    def _child(self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes) -> bytes | None:
        population = archive.recent(self.population)
        if within:
            population = [genotype for genotype in population if genotype.startswith(within)]
        if not population:
            return None
        child = b""
        for _ in range(ATTEMPTS // 10):
            if child in taken and child.startswith(within):
                parent = child
            else:
                parents = rng.sample(population, min(self.tournament, len(population)))
                parent = min(parents, key=archive.rank)
            child = archive.domain.space.mutate(parent, rng)
            if fresh(archive, taken, child, within):
                return child
        return None
