"""What a strategy is."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from pool.search.archive import Archive

ATTEMPTS = 200
"""Tries at a proposal before a strategy gives up on it; most tries succeed, a nearly exhausted subspace's do not."""

COUNTED = 256
"""Of more leased genotypes than these the places are not counted: with so many, chance spreads them evenly enough."""


class Strategy(ABC):
    """Chooses what to train next. What it works out from an archive belongs into the archive's cache.

    A pool proposes for all of its members in its one process, and `taken` may hold tens of thousands of genotypes: ask
    it whether it holds one, and do not copy it.
    """

    name: ClassVar[str]

    @abstractmethod
    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """A canonical genotype that the task admits, neither in the archive nor `taken`, that starts with `within`.

        None where none was found in a bounded number of tries.
        """


def fresh(archive: Archive, taken: Collection[bytes], genotype: bytes, within: bytes) -> bool:
    """Whether a canonical genotype may be proposed."""
    return (
        genotype.startswith(within)
        and genotype not in archive
        and genotype not in taken
        and archive.domain.cost(genotype) is not None
    )


def inherited(archive: Archive, taken: Collection[bytes], within: bytes) -> bytes | None:
    """The first starting point that may be proposed."""
    return next((genotype for genotype in archive.starting_points if fresh(archive, taken, genotype, within)), None)


def stratified(archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes) -> bytes | None:
    """A random proposal, from the subspace with the fewest results and leases, or `within`."""
    for prefix in [within] if within else _by_coverage(archive, taken, rng):
        listed = archive.domain.listed(prefix)
        if listed is not None:
            free = [genotype for genotype in listed if fresh(archive, taken, genotype, prefix)]
            if free:
                return rng.choice(free)
            continue
        for _ in range(ATTEMPTS):
            genotype = archive.domain.sample(prefix, rng)
            if fresh(archive, taken, genotype, prefix):
                return genotype
    return None


def largest(archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes, draws: int) -> bytes | None:
    """Of so many random proposals the one with the most multiply-accumulates."""
    found: list[tuple[int, bytes]] = []
    for _ in range(ATTEMPTS):
        genotype = archive.domain.sample(within, rng)
        cost = archive.domain.cost(genotype)
        if cost is not None and fresh(archive, taken, genotype, within):
            found.append((cost.macs, genotype))
            if len(found) == draws:
                break
    return max(found)[1] if found else stratified(archive, taken, rng, within)


def _by_coverage(archive: Archive, taken: Collection[bytes], rng: random.Random) -> list[bytes]:
    counts = archive.coverage
    if len(taken) <= COUNTED:
        counts.update(archive.domain.prefix(genotype) for genotype in taken)
    order = list(archive.domain.prefixes)
    rng.shuffle(order)
    return sorted(order, key=lambda prefix: (archive.domain.barren(prefix), counts[prefix]))
