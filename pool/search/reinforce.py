"""A REINFORCE controller."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.search.archive import Archive
from pool.search.strategy import ATTEMPTS, Strategy, fresh, inherited, stratified
from pool.work import Candidate

Policy = list[NDArray[np.float64]]


@dataclass(slots=True)
class Controller:
    """A categorical distribution for each gene, after the first `seen` results of an archive."""

    logits: Policy
    seen: int = 0
    removals: int = 0
    mean: float = 0.0
    spread: float = 0.0

    def learn(self, result: Candidate, rate: float, memory: float) -> None:
        """One step of the policy gradient, its advantage in units of the scores' running mean deviation."""
        score = result.validation_correct / max(1, result.validation_total)
        if self.seen == 0:
            self.mean = score
        gap = score - self.mean
        self.spread = memory * self.spread + (1 - memory) * abs(gap) if self.seen else 0.01
        self.mean += (1 - memory) * gap
        self.seen += 1
        advantage = max(-3.0, min(3.0, gap / (self.spread + 1e-9)))
        for logits, gene in zip(self.logits, result.genotype, strict=True):
            step = -probabilities(logits)
            step[gene] += 1
            logits += rate * advantage * step


@dataclass(frozen=True, slots=True)
class Reinforce(Strategy):
    """A policy over genes, trained by REINFORCE on the results in order of arrival (Zoph and Le, arXiv 1611.01578).

    The policy keeps `floor` of its probability on the uniform distribution.
    """

    name: ClassVar[str] = "reinforce"
    rate: float = 0.08
    memory: float = 0.9
    floor: float = 0.05

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        first = inherited(archive, taken, within)
        if first is not None:
            return first
        space = archive.domain.space
        policy = [
            (1 - self.floor) * probabilities(logits) + self.floor / len(logits)
            for logits in self._controller(archive).logits
        ]
        for _ in range(ATTEMPTS):
            genes = [rng.choices(range(len(weights)), weights.tolist())[0] for weights in policy[len(within) :]]
            genotype = space.canonical(within + bytes(genes))
            if fresh(archive, taken, genotype, within):
                return genotype
        return stratified(archive, taken, rng, within)

    def _controller(self, archive: Archive) -> Controller:
        """The controller after all results; it learns only what is new, unless a result was removed."""
        known = archive.cache.get(self)
        if not isinstance(known, Controller) or known.removals != archive.removals:
            known = Controller([np.zeros(size) for size in archive.domain.space.gene_sizes], removals=archive.removals)
            archive.cache[self] = known
        for genotype in reversed(archive.recent(len(archive) - known.seen)):
            result = archive.get(genotype)
            if result is not None:
                known.learn(result, self.rate, self.memory)
        return known


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax."""
    powers = np.exp(logits - logits.max())
    found: NDArray[np.float64] = powers / powers.sum()
    return found
