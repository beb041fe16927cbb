"""`nb201-v1`: the cells of NAS-Bench-201 and NATS-Bench-TSS, by their architecture strings, in a small network.

Six genes, one operation per edge, in the order of the strings: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`. So results
compare with the published tables. What is scaled down is the network around the cell: a 3x3 stem of 8 channels, then
three stages of one cell, with 8, 16 and 32 channels; between them a residual block halves the map and doubles the
channels; at the end a mean over the map and a linear layer. As there, a convolution is preceded by a ReLU.

The canonical form finds 6,466 distinct cells (see `cells`). 1,537 of them only differ from another in zeros that are
added or in the order of a sum, or are always zero; so that one network has one encoding, `decode` refuses these and
names the other. 4,929 can be trained.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from typing import ClassVar

from consensus.spaces.base import InputShape, InvalidGenotype, Space
from consensus.spaces.cells import AVERAGE, CONV1, CONV3, EDGES, NODES, OPERATIONS, SKIP, classes, live_edges
from consensus.spaces.graph import Graph, GraphBuilder

WIDTHS = (8, 16, 32)
CELLS = 1
"""Cells of each stage."""
KERNELS = {CONV1: 1, CONV3: 3}
MAX_TEXT = 200


class NB201V1(Space):
    """See the module."""

    name: ClassVar[str] = "nb201-v1"
    gene_sizes: ClassVar[tuple[int, ...]] = (len(OPERATIONS),) * len(EDGES)

    def canonical(self, genotype: bytes) -> bytes:
        """See `cells.classes`."""
        self.validate(genotype)
        return classes().canonical[genotype]

    def distinct_count(self) -> int:
        """6,466."""
        return len(classes().admitted)

    def count(self, prefix: bytes) -> int:
        """See `Space.count`."""
        return _counts()[prefix]

    def sample(self, rng: random.Random) -> bytes:
        """A canonical genotype; each of the 6,466 is equally likely."""
        return rng.choice(list(classes().admitted))

    def text(self, genotype: bytes) -> str:
        """The architecture string of the canonical genotype."""
        canonical = self.canonical(genotype)
        nodes = []
        for target in range(1, NODES):
            parts = [
                f"{OPERATIONS[operation]}~{source}"
                for (source, into), operation in zip(EDGES, canonical, strict=True)
                if into == target
            ]
            nodes.append(f"|{'|'.join(parts)}|")
        return "+".join(nodes)

    def parse(self, text: str) -> bytes:
        """The genotype of an architecture string, as it stands (not made canonical), or of hexadecimal digits."""
        text = text.strip()
        if "|" not in text[:MAX_TEXT]:
            return super().parse(text)
        found = bytearray()
        nodes = text.split("+") if len(text) <= MAX_TEXT else []
        if len(nodes) == NODES - 1:
            for target, node in enumerate(nodes, start=1):
                found += _parse_node(node, target)
            return bytes(found)
        raise InvalidGenotype("A cell is written |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.")

    def decode(self, genotype: bytes, shape: InputShape) -> Graph:
        """See `Space.decode`. Refuses the cells that compute what another does; see the module."""
        canonical = self.canonical(genotype)
        admitted = classes().admitted[canonical]
        if not live_edges(admitted):
            raise InvalidGenotype("The output of this cell does not depend on its input.")
        if admitted != canonical:
            raise InvalidGenotype(f"This cell computes what {self.text(admitted)} computes: use that one.")
        build = GraphBuilder(shape)
        last = build.conv(0, WIDTHS[0], 3, relu=False)
        for stage, width in enumerate(WIDTHS):
            if stage:
                last = _reduction(build, last, width)
            for _ in range(CELLS):
                last = _cell(build, canonical, last, width)
        node = build.nodes[last]
        last = build.pool("sum_pool", build.rectify(last), (node.height, node.width))
        return build.logits(last, shape.classes)


@lru_cache(maxsize=1)
def _counts() -> Counter[bytes]:
    """How many canonical cells start with each prefix."""
    return Counter(cell[:length] for cell in classes().admitted for length in range(len(EDGES) + 1))


def _parse_node(text: str, target: int) -> bytes:
    """The operations of one node's edges, `|op~0|op~1|...|`."""
    edges = text.split("|")
    if len(edges) != target + 2 or edges[0] or edges[-1]:
        raise InvalidGenotype(f"Node {target} of a cell has {target} edges, written |op~0|... with an operation each.")
    found = []
    for source, edge in enumerate(edges[1:-1]):
        operation, _, number = edge.partition("~")
        if operation not in OPERATIONS or number != str(source):
            raise InvalidGenotype(
                f"An edge from node {source} is written operation~{source}; operations: {', '.join(OPERATIONS)}."
            )
        found.append(OPERATIONS.index(operation))
    return bytes(found)


def _cell(build: GraphBuilder, cell: bytes, source: int, width: int) -> int:
    """The nodes of the cell; what a node's edges bring is added in the order of the edges."""
    nodes, rectified = {0: source}, dict[int, int]()
    for before, target, operation in live_edges(cell):
        brought = nodes[before]
        if operation == AVERAGE:
            brought = build.smooth(brought, 3)
        elif operation != SKIP:
            if before not in rectified:
                rectified[before] = build.rectify(brought)
            brought = build.conv(rectified[before], width, KERNELS[operation], relu=False)
        nodes[target] = build.add(nodes[target], brought, relu=False) if target in nodes else brought
    return nodes[NODES - 1]


def _reduction(build: GraphBuilder, source: int, width: int) -> int:
    """Half the map and `width` channels: two 3x3 convolutions beside a mean and a 1x1 convolution."""
    inner = build.conv(build.rectify(source), width, 3, 2)
    branch = build.conv(inner, width, 3, relu=False)
    before = build.nodes[source]
    if before.height % 2 or before.width % 2:
        shortcut = build.conv(source, width, 1, 2, relu=False)
    else:
        shortcut = build.conv(build.pool("sum_pool", source, (2, 2)), width, 1, relu=False)
    return build.add(branch, shortcut, relu=False)
