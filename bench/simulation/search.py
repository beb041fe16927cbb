"""What a simulated miner trains: architectures at random, or what a real strategy proposes after each result."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from bench.pool_search import under_virtual_time
from bench.simulation.oracle import SPLIT, scores, task_spec
from pool.search import STRATEGIES, Archive
from pool.subspace import Domain
from pool.work import Candidate

Search = Callable[[int, random.Random], list[bytes]]
"""Genotypes of so many trainings, drawn with a source of randomness."""


def at_random(count: int, rng: random.Random) -> list[bytes]:
    """Different architectures at random."""
    return rng.sample(list(scores()), count)


def searching(name: str) -> Search:
    """A search with the strategy of this name, which begins anew in every epoch."""
    strategy = under_virtual_time(STRATEGIES[name])

    def search(count: int, rng: random.Random) -> list[bytes]:
        archive = Archive(_domain())
        found: list[bytes] = []
        while len(found) < count and (genotype := strategy.propose(archive, (), rng)) is not None:
            found.append(genotype)
            archive.add(Candidate(genotype, (), b"", 0, scores()[genotype], SPLIT, b""))
        return found

    return search


@cache
def _domain() -> Domain:
    return Domain(task_spec())
