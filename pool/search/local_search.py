"""Local search."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from pool.search.archive import Archive
from pool.search.strategy import Strategy, inherited, stratified


@dataclass(frozen=True, slots=True)
class LocalSearch(Strategy):
    """Hill climbing from the best results (White et al., arXiv 2005.02960), after `initial` samples of every subspace.

    Proposes a neighbour of the best result; where all of those are known or taken, one of the next best, and so on
    down to the `restarts`-th; then a random architecture.
    """

    name: ClassVar[str] = "local"
    initial: int = 1
    restarts: int = 16

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        first = inherited(archive, taken, within)
        if first is not None:
            return first
        if len(archive) + len(taken) >= self.initial * len(archive.domain.prefixes):
            for around in self._around_best(archive):
                found = _first(archive, taken, around, within)
                if found is not None:
                    return found
        return stratified(archive, taken, rng, within)

    def _around_best(self, archive: Archive) -> list[list[bytes]]:
        """What is left of the neighbours of each of the best, in an order of chance; kept until the best change."""
        best = [result.genotype for result in archive.best(self.restarts)]
        removals, known = archive.cache.get(self, (0, {}))
        if removals != archive.removals:
            known = {}
        if list(known) != best:
            known = {
                genotype: known[genotype] if genotype in known else _around(archive, genotype) for genotype in best
            }
            archive.cache[self] = archive.removals, known
        return list(known.values())


def _around(archive: Archive, genotype: bytes) -> list[bytes]:
    found = archive.domain.space.neighbours(genotype)
    random.Random(genotype).shuffle(found)
    return found


def _first(archive: Archive, taken: Collection[bytes], around: list[bytes], within: bytes) -> bytes | None:
    """The last of `around` that may be proposed. Those that never may again leave the list."""
    for place in range(len(around) - 1, -1, -1):
        genotype = around[place]
        if genotype in archive or archive.domain.cost(genotype) is None:
            del around[place]
        elif genotype not in taken and genotype.startswith(within):
            return genotype
    return None
