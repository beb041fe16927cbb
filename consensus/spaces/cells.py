"""The cells of NAS-Bench-201, and which of the 15,625 are the same cell.

A cell has four nodes; each reads all earlier ones through one of five operations, so six edges (Dong and Yang,
arXiv 2001.00326; NATS-Bench, arXiv 2009.00437). Two relations are computed here:

- **Distinct cells, 6,466 of them, as the literature counts them.** Write node 0 as "0" and every other node as the
  sorted list, joined by "+", of what its edges bring: "#" for `none` or from a node that is just "#", the source's text
  for `skip_connect`, "(source)@operation" otherwise. Cells whose last node reads the same are the same cell. (It is
  `to_unique_str(consider_zero=True)` of the code that was published with NAS-Bench-201.)
- **Distinct functions, 4,930 of them.** The text above keeps zeros that are added ("#+x" and "x" differ) and keeps how
  a skipped sum was ordered. Without zeros and with sums laid flat, cells that compute the same coincide. One of the
  4,930 is the cell that always gives zero.

Both merge two equal operations on one input with one such operation used twice, as the literature does.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, AVERAGE = range(len(OPERATIONS))
NODES = 4
EDGES = tuple((source, target) for target in range(1, NODES) for source in range(target))
"""(source, target), in the order of the architecture strings: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
WEIGHTS = {CONV1: 1, CONV3: 9}


def unique_text(cell: bytes) -> str:
    """What names a cell in the literature; see the module. `cell`: an operation per edge."""
    nodes = ["0"]
    for target in range(1, NODES):
        parts = [_brought(nodes[source], operation) for source, operation in _edges_into(cell, target)]
        nodes.append("+".join(sorted(parts)))
    return nodes[-1]


def _brought(source: str, operation: int) -> str:
    if operation == NONE or source == "#":
        return "#"
    return source if operation == SKIP else f"({source})@{OPERATIONS[operation]}"


def function(cell: bytes) -> tuple[Any, ...]:
    """What the cell computes: a sorted, flat sum of terms (operation, sum); () is zero. See the module."""
    nodes: list[tuple[Any, ...]] = [((SKIP, ()),)]
    for target in range(1, NODES):
        terms: list[Any] = []
        for source, operation in _edges_into(cell, target):
            if operation == SKIP:
                terms.extend(nodes[source])
            elif operation != NONE and nodes[source]:
                terms.append((operation, nodes[source]))
        nodes.append(tuple(sorted(terms)))
    return nodes[-1]


def live_edges(cell: bytes) -> list[tuple[int, int, int]]:
    """(source, target, operation) of the edges that carry something from the input to the output, in edge order."""
    fed, used = {0}, {NODES - 1}
    for (source, target), operation in zip(EDGES, cell, strict=True):
        if operation != NONE and source in fed:
            fed.add(target)
    for (source, target), operation in reversed(list(zip(EDGES, cell, strict=True))):
        if operation != NONE and target in used:
            used.add(source)
    return [
        (source, target, operation)
        for (source, target), operation in zip(EDGES, cell, strict=True)
        if operation != NONE and source in fed and target in used
    ]


class Classes(NamedTuple):
    """`canonical`: by cell, the one that stands for its class of 6,466. `admitted`: by canonical cell, the one that
    stands for its function (of 4,930). Both in order of the cells."""

    canonical: dict[bytes, bytes]
    admitted: dict[bytes, bytes]


@lru_cache(maxsize=1)
def classes() -> Classes:
    """Both relations over all cells; takes half a second, once.

    The cell with most weights that are used stands for a class (so that none of its operations is lost), of those the
    first in lexicographic order.
    """
    cells = [bytes(genes) for genes in itertools.product(range(len(OPERATIONS)), repeat=len(EDGES))]
    preferred = sorted(cells, key=lambda cell: (-_live_weights(cell), cell))
    names = {cell: unique_text(cell) for cell in cells}
    first_named, first_computing = {}, {}
    for cell in reversed(preferred):
        first_named[names[cell]] = cell
        first_computing[function(cell)] = cell
    canonical = {cell: first_named[names[cell]] for cell in cells}
    admitted = {cell: first_computing[function(cell)] for cell in sorted(first_named.values())}
    return Classes(canonical, admitted)


def _live_weights(cell: bytes) -> int:
    return sum(WEIGHTS.get(operation, 0) for _, _, operation in live_edges(cell))


def _edges_into(cell: bytes, target: int) -> list[tuple[int, int]]:
    return [(source, operation) for (source, into), operation in zip(EDGES, cell, strict=True) if into == target]
