"""A Gaussian process over genotypes, and the candidates that it ranks."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Genes = NDArray[np.uint8]

DECAYS = (0.6, 1.3, 2.6, 4.2)
NOISES = (0.01, 0.05, 0.2)
MOST_FOR_CHOICE = 128
"""Results that choose decay and noise; all of them make the fit."""


class Process:
    """The posterior over `candidates` (genes, one row each) given `scores` of `known`.

    The covariance of two genotypes is exp(-decay * share of genes that differ): ridge regression on one-hot genes and
    all their products, the higher the order, the less weight. Decay and noise have the greatest likelihood of a small
    grid. The scores enter by rank only, as normal quantiles.
    """

    def __init__(self, known: Genes, scores: Floats, candidates: Genes, room: int) -> None:
        """`room`: how many pending genotypes `condition` will take at most."""
        targets = normal_scores(scores)
        self._decay, self._noise = _choose(known[-MOST_FOR_CHOICE:], targets[-MOST_FOR_CHOICE:])
        count = len(known)
        factor = np.linalg.cholesky(covariance(known, known, self._decay) + self._noise * np.eye(count))
        whiten = np.linalg.inv(factor)
        # rows: whitened covariances of what is known and pending with the candidates
        self._rows = np.empty((count + room, len(candidates)))
        np.matmul(whiten, covariance(known, candidates, self._decay), out=self._rows[:count])
        self._used = count
        self._candidates = candidates
        weights = whiten @ targets
        self._scale = float(weights @ weights) / count
        self.mean: Floats = weights @ self._rows[:count]
        self.variance: Floats = 1 - np.square(self._rows[:count]).sum(axis=0)

    @property
    def full(self) -> bool:
        """Whether there is no room for another pending genotype."""
        return self._used == len(self._rows)

    def deviation(self) -> Floats:
        """Standard deviation of the candidates' targets."""
        found: Floats = np.sqrt(np.maximum(self.variance, 1e-6) * self._scale)
        return found

    def condition(self, place: int) -> None:
        """The score of this candidate will be known: the others' variances shrink, the means stay."""
        rows = self._rows[: self._used]
        left = covariance(self._candidates[place : place + 1], self._candidates, self._decay)[0]
        row = (left - rows[:, place] @ rows) / np.sqrt(max(self.variance[place], 1e-6) + self._noise)
        self._rows[self._used] = row
        self._used += 1
        self.variance = self.variance - np.square(row)


def covariance(one: Genes, other: Genes, decay: float) -> Floats:
    """Prior covariances of two sets of genotypes."""
    differ = np.zeros((len(one), len(other)), np.uint8)
    for gene in range(one.shape[1]):
        differ += one[:, gene, None] != other[None, :, gene]
    table = np.exp(-decay * np.arange(one.shape[1] + 1) / one.shape[1])
    found: Floats = table[differ]
    return found


def normal_scores(scores: Floats) -> Floats:
    """Normal quantiles of the ranks; equal scores get equal ones."""
    order = np.sort(scores)
    ranks = (np.searchsorted(order, scores, "left") + np.searchsorted(order, scores, "right")) / 2
    normal = NormalDist()
    return np.array([normal.inv_cdf(rank / len(scores)) for rank in ranks])


def _choose(known: Genes, targets: Floats) -> tuple[float, float]:
    """Decay and noise with the greatest marginal likelihood, where the scale is the best one."""
    best, found = -np.inf, (DECAYS[0], NOISES[0])
    for decay in DECAYS:
        prior = covariance(known, known, decay)
        for noise in NOISES:
            factor = np.linalg.cholesky(prior + noise * np.eye(len(known)))
            weights = np.linalg.solve(factor, targets)
            scale = max(float(weights @ weights) / len(known), 1e-12)
            likelihood = -0.5 * len(known) * np.log(scale) - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best, found = likelihood, (decay, noise)
    return found
