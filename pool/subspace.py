"""The architectures that a task admits, cut into subspaces: a subspace is a genotype prefix (protocol section 9)."""

from __future__ import annotations

import itertools
import random

from consensus.spaces import InvalidGenotype, get_space
from consensus.spaces.base import Cost
from consensus.tasks import input_shape
from consensus.types import TaskSpec


class Domain:
    """A task's search space under its limits. The prefix is as short as gives at least `least_subspaces` subspaces."""

    def __init__(self, spec: TaskSpec, least_subspaces: int = 8) -> None:
        self.space = get_space(spec.space)
        self.spec = spec
        self._shape = input_shape(spec)
        count = self.depth = 0
        while count < least_subspaces and self.depth < len(self.space.gene_sizes):
            count = max(1, count) * self.space.gene_sizes[self.depth]
            self.depth += 1
        sizes = self.space.gene_sizes[: self.depth]
        self.prefixes = tuple(bytes(genes) for genes in itertools.product(*(range(size) for size in sizes)))

    def prefix(self, genotype: bytes) -> bytes:
        """The subspace that a genotype lies in."""
        return genotype[: self.depth]

    def cost(self, genotype: bytes) -> Cost | None:
        """Parameters and MACs of an architecture that the task admits, None where it does not."""
        try:
            cost = self.space.cost(genotype, self._shape)
        except InvalidGenotype:
            return None
        fits = cost.parameters <= self.spec.max_parameters and cost.macs <= self.spec.max_macs
        return cost if fits else None

    def sample(self, prefix: bytes, rng: random.Random) -> bytes | None:
        """One try at a random canonical genotype of the subspace; None where canonicalising it led out of it."""
        genes = bytes(rng.randrange(size) for size in self.space.gene_sizes[len(prefix) :])
        genotype = self.space.canonical(prefix + genes)
        return genotype if genotype.startswith(prefix) else None
