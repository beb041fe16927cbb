"""The contract of a search space: a finite, versioned set of genotypes, each of which decodes into a graph.

A genotype is `bytes`, one byte per gene, of fixed length. Many genotypes may describe one graph; `canonical` picks one
of them, so that an architecture has one name and nobody can present one network under many encodings (protocol,
section 2).
"""

from __future__ import annotations

import functools
import operator
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from consensus.spaces.graph import Graph

QUICK_DRAWS = 8
"""Random gene vectors that are tried as samples; a canonical one is as likely as any other, and found fast."""


class InvalidGenotype(ValueError):
    """The bytes are no genotype of the space, or the network does not fit the input. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """What a network of the task is fed and must answer: height x width x channels in, `classes` logits out."""

    height: int
    width: int
    channels: int
    classes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """`parameters`: number of weights. `macs`: multiply-accumulates of one forward pass of one sample."""

    parameters: int
    macs: int


_EDITS = 20
"""Random edits that are tried before all are listed, which takes as long as a hundred tries."""


class Space(ABC):
    """One search space. Implementations are stateless; all randomness comes in as an argument."""

    name: ClassVar[str]
    gene_sizes: ClassVar[tuple[int, ...]]

    def validate(self, genotype: bytes) -> None:
        """Raise `InvalidGenotype` unless every gene is present and within its range."""
        if len(genotype) != len(self.gene_sizes):
            raise InvalidGenotype(f"A genotype of {self.name} has {len(self.gene_sizes)} genes, not {len(genotype)}.")
        if all(map(operator.lt, genotype, self.gene_sizes)):
            return
        for position, (gene, size) in enumerate(zip(genotype, self.gene_sizes, strict=True)):
            if gene >= size:
                raise InvalidGenotype(f"Gene {position} of {self.name} is {gene}, but must be below {size}.")

    @abstractmethod
    def canonical(self, genotype: bytes) -> bytes:
        """The one genotype that stands for all that describe the same graph. Idempotent. Raises `InvalidGenotype`."""

    @abstractmethod
    def decode(self, genotype: bytes, shape: InputShape) -> Graph:
        """The network on inputs of `shape`. Raises `InvalidGenotype` if it does not fit or could be inexact."""

    @abstractmethod
    def text(self, genotype: bytes) -> str:
        """A description for people, on one line. Raises `InvalidGenotype`."""

    @abstractmethod
    def distinct_count(self) -> int:
        """The exact number of canonical genotypes."""

    @abstractmethod
    def count(self, prefix: bytes) -> int:
        """The exact number of canonical genotypes that start with `prefix`; 0 where none does."""

    def children(self, prefix: bytes) -> dict[bytes, int]:
        """The prefixes one gene longer that canonical genotypes start with, in order, each with its count."""
        if len(prefix) >= len(self.gene_sizes):
            return {}
        longer = (prefix + bytes([gene]) for gene in range(self.gene_sizes[len(prefix)]))
        return {child: count for child in longer if (count := self.count(child))}

    def at(self, prefix: bytes, index: int) -> bytes:
        """The canonical genotype at place `index`, from 0, of the sorted ones that start with `prefix`.

        Raises IndexError where `index` is not below `count(prefix)`.
        """
        if not 0 <= index < self.count(prefix):
            raise IndexError(f"{self.name} has {self.count(prefix)} genotypes under {prefix.hex()!r}, none at {index}.")
        while len(prefix) < len(self.gene_sizes):
            for child, count in self.children(prefix).items():
                if index < count:
                    prefix = child
                    break
                index -= count
        return prefix

    def sample_uniform(self, prefix: bytes, rng: random.Random) -> bytes:
        """A canonical genotype that starts with `prefix`, each equally likely. Raises IndexError where none does."""
        count = self.count(prefix)
        for _ in range(QUICK_DRAWS if count else 0):
            drawn = prefix + bytes(rng.randrange(size) for size in self.gene_sizes[len(prefix) :])
            if self.canonical(drawn) == drawn:
                return drawn
        return self.at(prefix, rng.randrange(count or 1))

    def _in_range(self, prefix: bytes) -> bool:
        """Whether every gene of a prefix is within its range."""
        sizes = self.gene_sizes
        return len(prefix) <= len(sizes) and all(gene < size for gene, size in zip(prefix, sizes, strict=False))

    def cost(self, genotype: bytes, shape: InputShape) -> Cost:
        """Parameters and multiply-accumulates on inputs of `shape`. Raises `InvalidGenotype`."""
        return self.decode(genotype, shape).cost

    def parse(self, text: str) -> bytes:
        """The genotype written as hexadecimal digits. Raises `InvalidGenotype`."""
        try:
            genotype = bytes.fromhex(text.strip())
        except ValueError:
            raise InvalidGenotype("A genotype is written as hexadecimal digits, two per gene.") from None
        self.validate(genotype)
        return genotype

    def sample(self, rng: random.Random) -> bytes:
        """A canonical genotype; the gene vector before canonicalisation is uniform."""
        return self.canonical(bytes(rng.randrange(size) for size in self.gene_sizes))

    def mutate(self, genotype: bytes, rng: random.Random) -> bytes:
        """A canonical genotype one gene edit away, different from the canonical form of `genotype`."""
        origin = _canonical(self, genotype)
        for _ in range(_EDITS):
            position = rng.randrange(len(self.gene_sizes))
            value = rng.randrange(self.gene_sizes[position])
            edited = self.canonical(origin[:position] + bytes([value]) + origin[position + 1 :])
            if edited != origin:
                return edited
        return rng.choice(self.neighbours(origin))

    def neighbours(self, genotype: bytes) -> list[bytes]:
        """All distinct canonical genotypes one gene edit away from the canonical form, in a fixed order."""
        origin = self.canonical(genotype)
        found: dict[bytes, None] = {}
        for position, size in enumerate(self.gene_sizes):
            for value in range(size):
                edited = self.canonical(origin[:position] + bytes([value]) + origin[position + 1 :])
                if edited != origin:
                    found[edited] = None
        return list(found)


@functools.lru_cache(maxsize=1 << 12)
def _canonical(space: Space, genotype: bytes) -> bytes:
    """The canonical form of a genotype that many others descend from."""
    return space.canonical(genotype)
