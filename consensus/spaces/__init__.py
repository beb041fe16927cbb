"""Search spaces by name. Names are versioned: a change of meaning is a new name."""

from __future__ import annotations

from consensus.spaces.base import Cost, InputShape, InvalidGenotype, Space
from consensus.spaces.graph import Graph, Node
from consensus.spaces.mlp import MlpV1
from consensus.spaces.nb201 import NB201V1
from consensus.spaces.picture import picture
from consensus.spaces.stages import StagesV1

__all__ = [
    "SPACES",
    "Cost",
    "Graph",
    "InputShape",
    "InvalidGenotype",
    "Node",
    "Space",
    "UnknownSpace",
    "get_space",
    "picture",
]

SPACES: dict[str, Space] = {space.name: space for space in (StagesV1(), NB201V1(), MlpV1())}


class UnknownSpace(ValueError):
    """No search space has this name."""


def get_space(name: str) -> Space:
    """The search space called `name`. Raises `UnknownSpace`."""
    if name not in SPACES:
        raise UnknownSpace(f"No search space is called {name[:64]!r}; there are: {', '.join(sorted(SPACES))}.")
    return SPACES[name]
