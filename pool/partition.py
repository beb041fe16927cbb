"""A search space cut into subspaces by genotype prefix; finer where the results show promise.

The subspaces are the leaves of a tree: every canonical genotype starts with the prefix of exactly one of them, and
their sizes, which are exact, add up to the space. The tree is a function of the results in their order, so that a pool
that is rebuilt from its ledger has the same one.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from consensus.spaces import Space

ELITE = 64
Rank = tuple[int, int]
"""(score, -order): greater is better, the earlier of two equal scores."""


@dataclass(slots=True)
class Subspace:
    """`size` canonical genotypes start with `prefix`; `results` are those with a result."""

    prefix: bytes
    size: int
    results: dict[bytes, Rank] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """The best score; None without results."""
        return max(self.results.values())[0] if self.results else None


class Partition:
    """Starts with the largest leaves split until there are `least`, none over twice its part of the space; then it is
    never split to more than `most`.

    Each time a leaf has `enough` more results, it is split if it holds at least as large a part of the best results as
    of all results. The best are a quarter of all, at most 64. Where there is no room, siblings that hold none of the
    best make some: those with the fewest results become one leaf again.
    """

    def __init__(self, space: Space, least: int = 8, most: int = 128, enough: int = 16) -> None:
        self.space = space
        self.leaves = {b"": Subspace(b"", space.count(b""))}
        self.results = 0
        self._most, self._enough = max(least, most), enough
        self._added = 0
        self._elite: list[tuple[Rank, bytes]] = []
        self._families: dict[bytes, tuple[bytes, ...]] = {}
        whole = largest = self.leaves[b""]
        while largest.size > 1 and (len(self.leaves) < least or largest.size * least > 2 * whole.size):
            self._replace([largest], self._children(largest.prefix))
            largest = max(self.leaves.values(), key=lambda leaf: leaf.size)

    def find(self, genotype: bytes) -> Subspace:
        """The leaf that a canonical genotype lies in. Raises ValueError for one that is not canonical."""
        for length in range(len(genotype) + 1):
            leaf = self.leaves.get(genotype[:length])
            if leaf is not None:
                return leaf
        raise ValueError(f"{genotype.hex()!r} is no canonical genotype of {self.space.name}")

    def add(self, genotype: bytes, score: int) -> None:
        """Take in the result of an architecture that has none here, and split its leaf if that is due."""
        leaf = self.find(genotype)
        rank = leaf.results[genotype] = score, -self._added
        self._added += 1
        self.results += 1
        heapq.heappush(self._elite, (rank, genotype))
        if len(self._elite) > ELITE:
            heapq.heappop(self._elite)
        if len(leaf.results) % self._enough == 0 and self._promising(leaf):
            self._split(leaf)

    def remove(self, genotype: bytes) -> None:
        """Forget a result. The tree stays as it is."""
        del self.find(genotype).results[genotype]
        self.results -= 1
        if any(genotype == other for _, other in self._elite):
            ranks = ((rank, other) for leaf in self.leaves.values() for other, rank in leaf.results.items())
            self._elite = sorted(heapq.nlargest(ELITE, ranks))

    def _best(self) -> list[bytes]:
        return [genotype for _, genotype in heapq.nlargest(min(ELITE, self.results // 4), self._elite)]

    def _promising(self, leaf: Subspace) -> bool:
        best = self._best()
        among = sum(genotype in leaf.results for genotype in best)
        return among > 0 and among * self.results >= len(leaf.results) * len(best)

    def _split(self, leaf: Subspace) -> None:
        children = self._children(leaf.prefix)
        if len(children) < 2 or not self._make_room(len(children) - 1):
            return
        self._families[leaf.prefix] = tuple(child.prefix for child in children)
        self._replace([leaf], children)

    def _children(self, prefix: bytes) -> list[Subspace]:
        """The subspaces that the next gene which is open makes of a prefix; none of a whole genotype."""
        children = self.space.children(prefix)
        while len(children) == 1:
            children = self.space.children(*children)
        return [Subspace(prefix, size) for prefix, size in children.items()]

    def _make_room(self, leaves: int) -> bool:
        """Join siblings until so many leaves more are allowed; nothing is joined where that cannot be reached."""
        over, joined = len(self.leaves) + leaves - self._most, []
        for parent, family in self._idle_families() if over > 0 else ():
            joined.append((parent, family))
            over -= len(family) - 1
            if over <= 0:
                break
        if over > 0:
            return False
        for parent, family in joined:
            del self._families[parent]
            self._replace(family, [Subspace(parent, sum(leaf.size for leaf in family))])
        return True

    def _idle_families(self) -> list[tuple[bytes, list[Subspace]]]:
        """Siblings that are all leaves and hold none of the best, by their parent; the fewest results first."""
        busy = {self.find(genotype).prefix for genotype in self._best()}
        families = []
        for parent, prefixes in self._families.items():
            if busy.isdisjoint(prefixes) and all(prefix in self.leaves for prefix in prefixes):
                families.append((parent, [self.leaves[prefix] for prefix in prefixes]))
        return sorted(families, key=lambda family: (sum(len(leaf.results) for leaf in family[1]), family[0]))

    def _replace(self, old: list[Subspace], new: list[Subspace]) -> None:
        """Put leaves in the place of others that cover the same genotypes."""
        for leaf in old:
            del self.leaves[leaf.prefix]
        self.leaves.update((leaf.prefix, leaf) for leaf in new)
        for leaf in old:
            for genotype, rank in leaf.results.items():
                self.find(genotype).results[genotype] = rank
