"""The network of `nb201-v1` in float32, with the weights of every operation on every edge; cells share them.

Every convolution is normalised by the statistics of the batch itself, so that a cell that was never sampled works too.
"""

from __future__ import annotations

from itertools import groupby, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from consensus.spaces.base import InputShape
from consensus.spaces.cells import AVERAGE, EDGES, NODES, NONE, OPERATIONS, SKIP, live_edges
from consensus.spaces.nb201 import CELLS, KERNELS, WIDTHS

Use = tuple[int, int, Tensor | None]
"""(edge, operation, weight of it or None for 1)."""

_GIVING = tuple(operation for operation in range(len(OPERATIONS)) if operation != NONE)


def path(cell: bytes) -> list[Use]:
    """The operations of one cell that matter."""
    return [(EDGES.index((source, target)), operation, None) for source, target, operation in live_edges(cell)]


def mixture(weights: Tensor) -> list[Use]:
    """Every operation on every edge. `weights`: shape (edges, operations)."""
    return [(edge, operation, weights[edge, operation]) for edge in range(len(EDGES)) for operation in _GIVING]


class Supernet(nn.Module):
    """Stem, stages of cells with reductions between them, head."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.stem = Convolution(shape.channels, WIDTHS[0], 3)
        self.reductions = nn.ModuleList(Reduction(*pair) for pair in pairwise(WIDTHS))
        self.stages = nn.ModuleList(nn.ModuleList(Cell(width) for _ in range(CELLS)) for width in WIDTHS)
        self.head = nn.Linear(WIDTHS[-1], shape.classes)

    def forward(self, samples: Tensor, uses: list[Use]) -> Tensor:
        """Logits (batch, classes) of standardised samples (batch, channels, height, width)."""
        value = self.stem(samples)
        for stage, cells in enumerate(self.stages):
            if stage:
                value = self.reductions[stage - 1](value)
            for cell in cells:  # type: ignore[attr-defined]
                value = cell(value, uses)
        logits: Tensor = self.head(functional.relu(value).mean((2, 3)))
        return logits


class Convolution(nn.Conv2d):
    """A convolution without bias, normalised."""

    def __init__(self, before: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(before, width, kernel, stride, kernel // 2, bias=False)

    def forward(self, value: Tensor) -> Tensor:
        """See the module."""
        normal: Tensor = functional.batch_norm(super().forward(value), None, None, training=True)
        return normal


class Cell(nn.Module):
    """Both convolutions of every edge; the other operations have no weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.ModuleList(Convolution(width, width, kernel) for kernel in KERNELS.values()) for _ in EDGES
        )

    def forward(self, value: Tensor, uses: list[Use]) -> Tensor:
        """The last node. Edges are in order of their targets, so that all of a node's have come when it is read."""
        nodes: list[Tensor] = [value] + [torch.zeros_like(value)] * (NODES - 1)
        rectified: dict[int, Tensor] = {}
        for edge, group in groupby(uses, key=lambda use: use[0]):
            source, target = EDGES[edge]
            for _, operation, weight in group:
                if operation in KERNELS and source not in rectified:
                    rectified[source] = functional.relu(nodes[source])
                brought = self._brought(edge, operation, nodes[source], rectified.get(source))
                nodes[target] = nodes[target] + (brought if weight is None else weight * brought)
        return nodes[-1]

    def _brought(self, edge: int, operation: int, value: Tensor, rectified: Tensor | None) -> Tensor:
        if operation == SKIP:
            return value
        if operation == AVERAGE:
            return functional.avg_pool2d(value, 3, 1, 1)
        place = list(KERNELS).index(operation)
        brought: Tensor = self.convolutions[edge][place](rectified)  # type: ignore[index]
        return brought


class Reduction(nn.Module):
    """Half the map, more channels: two 3x3 convolutions beside a mean and a 1x1 convolution."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.inner = Convolution(before, width, 3, 2)
        self.branch = Convolution(width, width, 3)
        self.shortcut = Convolution(before, width, 1)

    def forward(self, value: Tensor) -> Tensor:
        """See the class; a map of odd sides is padded."""
        short: Tensor = self.shortcut(functional.avg_pool2d(value, 2, ceil_mode=True))
        branch: Tensor = self.branch(functional.relu(self.inner(functional.relu(value))))
        return branch + short
