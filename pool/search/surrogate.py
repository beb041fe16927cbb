"""Search by a fitted model of the scores."""

from __future__ import annotations

import functools
import itertools
import math
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from consensus.spaces import get_space
from pool.search.allowance import Allowance
from pool.search.archive import Archive
from pool.search.evolution import Evolution
from pool.search.gaussian import Genes, Process
from pool.search.strategy import Strategy, inherited, largest

ENUMERABLE = 50_000
"""Spaces of at most so many gene vectors are ranked whole, larger ones by a sample."""
DIGITS = 4
"""Bounds that agree to so many decimals are equal: rounding errors must not choose."""
PENDING = 128
"""Genotypes that a fit can count as pending; when there are so many, evolution proposes until the next fit."""


@dataclass(slots=True)
class Fit:
    """A model after the first `count` results of an archive and `removals`, and which candidates are free.

    `asked` are proposals that the model does not count as pending yet.
    """

    removals: int
    count: int
    genotypes: list[bytes]
    places: dict[bytes, int]
    process: Process
    free: NDArray[np.bool_]
    asked: list[bytes] = field(default_factory=list)

    def count_pending(self, genotypes: Collection[bytes]) -> None:
        """Take these as known from now on, as far as there is room."""
        for genotype in genotypes:
            place = self.places.get(genotype)
            if place is not None and not self.process.full:
                self.process.condition(place)


@dataclass(frozen=True, slots=True)
class Surrogate(Strategy):
    """The candidate with the highest upper confidence bound under a Gaussian process over genotypes.

    Begins with the starting points and `initial` results, each the largest of `draws` random architectures: on most
    tasks larger ones are better, and so few draws leave enough of the small ones. What is taken counts as if its
    score were known to be what the model expects, so that the members of a pool train different things (Desautels et
    al., JMLR 15, 2014). The model is fitted anew when the archive has grown by 1/32; it keeps the best and the latest,
    `most` results in all. In a large space it ranks a sample: neighbours and crossovers of the best, and random
    architectures, about `sample` in all.

    It takes at most `share` of the time of `clock` (seconds), and `burst` seconds at once. While that is used up, and
    in large pools while `PENDING` proposals wait for a fit, evolution proposes.
    """

    name: ClassVar[str] = "surrogate"
    initial: int = 16
    draws: int = 3
    courage: float = 1.5
    most: int = 192
    sample: int = 1000
    share: float = 0.05
    burst: float = 1.0
    clock: Callable[[], float] = time.monotonic

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        first = inherited(archive, taken, within)
        if first is not None:
            return first
        if len(archive) < self.initial:
            return largest(archive, taken, rng, within, self.draws)
        began = self.clock()
        allowance = archive.cache.setdefault((self, "time"), Allowance(self.share, self.burst, began, self.burst))
        if allowance.may(began):
            found = self._best(archive, taken, rng, within)
            allowance.spend(began, self.clock())
            if found is not None:
                return found
        return Evolution().propose(archive, taken, rng, within)

    def _best(self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes) -> bytes | None:
        fit = self._fit(archive, taken)
        fit.count_pending([genotype for genotype in fit.asked if genotype in taken or genotype in archive])
        fit.asked.clear()
        if fit.process.full:
            return None
        bound = (fit.process.mean + self.courage * fit.process.deviation()).round(DIGITS)
        bound[~fit.free] = -np.inf
        if within:
            bound[[not genotype.startswith(within) for genotype in fit.genotypes]] = -np.inf
        ties = np.random.default_rng(rng.getrandbits(64)).random(len(bound))
        while (best := bound.max()) > -np.inf:
            equal = np.flatnonzero(bound == best)
            place = int(equal[ties[equal].argmax()])
            candidate = fit.genotypes[place]
            if candidate not in archive and archive.domain.cost(candidate) is not None:
                if candidate not in taken:
                    fit.asked.append(candidate)
                    return candidate
            else:
                fit.free[place] = False
            bound[place] = -np.inf
        return None

    def _fit(self, archive: Archive, taken: Collection[bytes]) -> Fit:
        """The model of the first results, as many as `_fitted` says, with all others and what is taken pending."""
        count = _fitted(len(archive))
        known = archive.cache.get(self)
        if isinstance(known, Fit) and (known.removals, known.count) == (archive.removals, count):
            return known
        order = [result.genotype for result in itertools.islice(archive, count)]
        if len(order) > self.most:
            best = {result.genotype for result in archive.best(self.most // 2)}
            late = [genotype for genotype in order if genotype not in best][-(self.most // 2) :]
            order = [*(genotype for genotype in order if genotype in best), *late]
        genotypes = self._candidates(archive, order)
        scores = np.array([-archive.rank(genotype)[0] for genotype in order], np.float64)
        process = Process(_genes(order), scores, _genes(genotypes), PENDING)
        places = {genotype: place for place, genotype in enumerate(genotypes)}
        free = np.array([genotype not in archive and genotype not in taken for genotype in genotypes])
        if isinstance(known, Fit) and known.genotypes is genotypes and known.removals == archive.removals:
            free &= known.free
        fit = archive.cache[self] = Fit(archive.removals, count, genotypes, places, process, free)
        waiting = [*archive.recent(len(archive) - count), *itertools.islice(taken, PENDING)]
        fit.count_pending(sorted(set(waiting[:PENDING])))
        return fit

    def _candidates(self, archive: Archive, order: list[bytes]) -> list[bytes]:
        space = archive.domain.space
        if math.prod(space.gene_sizes) <= ENUMERABLE:
            return _all(space.name)
        rng = random.Random(b"".join(order[-16:]))
        best = sorted(order, key=archive.rank)[:32]
        found = dict.fromkeys(genotype for parent in best[:4] for genotype in space.neighbours(parent))
        for _ in range(4 * self.sample):
            if len(found) >= self.sample:
                break
            if rng.random() < 0.25:
                found[space.sample(rng)] = None
                continue
            one, other = rng.choice(best), rng.choice(best)
            crossed = bytearray(rng.choice(pair) for pair in zip(one, other, strict=True))
            place = rng.randrange(len(crossed))
            crossed[place] = rng.randrange(space.gene_sizes[place])
            found[space.canonical(bytes(crossed))] = None
        return list(found)


def _fitted(count: int) -> int:
    """How many of `count` results the model is fitted to: all of up to 64, then in steps of at most 1/32."""
    return count - count % (1 << max(0, count.bit_length() - 6))


def _genes(genotypes: list[bytes]) -> Genes:
    return np.frombuffer(b"".join(genotypes), np.uint8).reshape(len(genotypes), -1)


@functools.cache
def _all(space: str) -> list[bytes]:
    """All canonical genotypes of a small space."""
    found = get_space(space)
    return [found.at(b"", index) for index in range(found.distinct_count())]
