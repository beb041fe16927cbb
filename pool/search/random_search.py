"""Random search."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from pool.search.archive import Archive
from pool.search.strategy import Strategy, stratified


@dataclass(frozen=True, slots=True)
class RandomSearch(Strategy):
    """Uniform over the architectures of a subspace, spread evenly over the subspaces."""

    name: ClassVar[str] = "random"

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`. Without `within`, the subspaces with the fewest results and leases come first."""
        return stratified(archive, taken, rng, within)
