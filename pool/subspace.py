"""The architectures that a task admits, cut into subspaces: a subspace is a genotype prefix (protocol section 9)."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from consensus.spaces import InvalidGenotype, get_space
from consensus.spaces.base import Cost
from consensus.tasks import input_shape
from consensus.types import TaskSpec
from pool.partition import Partition, Subspace

LISTED = 64
"""Subspaces of at most so many architectures are listed, of larger ones as many are drawn, to see what is left."""

KEPT_COSTS = 1 << 14


class Domain:
    """A task's search space under its limits, and how it is cut now: it belongs to the archive that fills it."""

    def __init__(self, spec: TaskSpec, least_subspaces: int = 8) -> None:
        self.space = get_space(spec.space)
        self.spec = spec
        self.partition = Partition(self.space, least_subspaces)
        self._shape = input_shape(spec)
        self._admitted: dict[bytes, int] = {}
        self._some_fit: dict[bytes, bool] = {}
        self._lists: dict[bytes, tuple[bytes, ...]] = {}
        self._cost = functools.lru_cache(maxsize=KEPT_COSTS)(self._measure)

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """The subspaces."""
        return tuple(self.partition.leaves)

    def prefix(self, genotype: bytes) -> bytes:
        """The subspace that a canonical genotype lies in."""
        return self.partition.find(genotype).prefix

    def barren(self, prefix: bytes) -> bool:
        """Whether a subspace seems to have nothing left to train. Certain for a small one, else judged by samples."""
        leaf = self.partition.leaves[prefix]
        if prefix not in self._admitted:
            few = 8 * len(leaf.results) < leaf.size
            if few and (leaf.results or self._inhabited(leaf)):
                return False
            found = list(self._some(leaf))
            fit = sum(self.cost(genotype) is not None for genotype in found)
            self._admitted[prefix] = leaf.size * fit // len(found)
        return len(leaf.results) >= self._admitted[prefix]

    def cost(self, genotype: bytes) -> Cost | None:
        """Parameters and MACs of an architecture that the task admits, None where it does not."""
        return self._cost(genotype)

    def admitted(self) -> Iterator[bytes]:
        """Every architecture that the task admits, in lexicographic order. For small spaces."""
        every = (self.space.at(b"", index) for index in range(self.space.distinct_count()))
        return (genotype for genotype in every if self.cost(genotype) is not None)

    def sample(self, prefix: bytes, rng: random.Random) -> bytes:
        """A canonical genotype of the subspace, each equally likely, whether the task admits it or not."""
        return self.space.sample_uniform(prefix, rng)

    def listed(self, prefix: bytes) -> tuple[bytes, ...] | None:
        """All canonical genotypes of a small subspace in order, None for a large one."""
        leaf = self.partition.leaves.get(prefix)
        if leaf is None or leaf.size > LISTED:
            return None
        if prefix not in self._lists:
            self._lists[prefix] = tuple(self.space.at(prefix, index) for index in range(leaf.size))
        return self._lists[prefix]

    def _some(self, leaf: Subspace) -> Iterator[bytes]:
        """All architectures of a small subspace, or samples; the same every time."""
        listed = self.listed(leaf.prefix)
        if listed is not None:
            return iter(listed)
        rng = random.Random(leaf.prefix)
        return (self.space.sample_uniform(leaf.prefix, rng) for _ in range(LISTED))

    def _inhabited(self, leaf: Subspace) -> bool:
        """Whether the task admits something of what `_some` finds."""
        if leaf.prefix not in self._some_fit:
            self._some_fit[leaf.prefix] = any(self.cost(genotype) is not None for genotype in self._some(leaf))
        return self._some_fit[leaf.prefix]

    def _measure(self, genotype: bytes) -> Cost | None:
        try:
            cost = self.space.cost(genotype, self._shape)
        except InvalidGenotype:
            return None
        fits = cost.parameters <= self.spec.max_parameters and cost.macs <= self.spec.max_macs
        return cost if fits else None
