"""`mlp-v1`: fully connected networks, for tables. (An image is taken as a row of its pixels.)

Genes: the width of the first layer, then for each of five more layers its block and width. Block 0 is no layer. A
residual block adds two layers to its input, through a projection where the width changes; between the two it is as wide
as its output, half or twice as wide. Widths end at 384, so that twice the width is a sum that is exact.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from consensus.spaces.base import InputShape, Space
from consensus.spaces.graph import Graph, GraphBuilder

WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
BLOCKS = ("none", "dense", "res", "narrow", "wide")
INNER = {"res": 2, "narrow": 1, "wide": 4}
"""Width between the two layers of a residual block, in halves of its output's width."""
MORE_LAYERS = 5


class Layer(NamedTuple):
    """Two genes: indices into the tables above."""

    block: int
    width: int


class MlpV1(Space):
    """See the module. 11 genes."""

    name: ClassVar[str] = "mlp-v1"
    gene_sizes: ClassVar[tuple[int, ...]] = (len(WIDTHS), *((len(BLOCKS), len(WIDTHS)) * MORE_LAYERS))

    def canonical(self, genotype: bytes) -> bytes:
        """Layers are moved to the front; those that are missing come last, with genes 0. One graph, one genotype."""
        self.validate(genotype)
        present = [layer for layer in _layers(genotype) if layer.block]
        present += [Layer(0, 0)] * (MORE_LAYERS - len(present))
        return genotype[:1] + bytes(gene for layer in present for gene in layer)

    def decode(self, genotype: bytes, shape: InputShape) -> Graph:
        """See `Space.decode`. The input is refused where a row of it has more values than can be summed exactly."""
        canonical = self.canonical(genotype)
        build = GraphBuilder(shape)
        last = build.dense(0, WIDTHS[canonical[0]], relu=True)
        for layer in _layers(canonical):
            if layer.block:
                last = _block(build, last, BLOCKS[layer.block], WIDTHS[layer.width])
        return build.logits(last, shape.classes)

    def text(self, genotype: bytes) -> str:
        """For example `dense-64 | res-64 | narrow-128`."""
        canonical = self.canonical(genotype)
        more = [f"{BLOCKS[layer.block]}-{WIDTHS[layer.width]}" for layer in _layers(canonical) if layer.block]
        return " | ".join([f"dense-{WIDTHS[canonical[0]]}", *more])

    def distinct_count(self) -> int:
        """Sequences of up to five layers after the first."""
        kinds = (len(BLOCKS) - 1) * len(WIDTHS)
        sequences: int = sum(kinds**depth for depth in range(MORE_LAYERS + 1))
        return len(WIDTHS) * sequences

    def count(self, prefix: bytes) -> int:
        """See `Space.count`."""
        sizes = self.gene_sizes
        if not self._in_range(prefix):
            return 0
        blocks, widths = sizes[1], sizes[2]
        rest = [1]  # sequences of up to so many layers
        for _ in range(MORE_LAYERS):
            rest.append(1 + (blocks - 1) * widths * rest[-1])
        if not prefix:
            return sizes[0] * rest[MORE_LAYERS]
        for position in range(1, len(prefix), 2):
            if not prefix[position]:
                return 0 if any(prefix[position:]) else 1
        left = MORE_LAYERS - len(prefix) // 2
        return rest[left] if len(prefix) % 2 else widths * rest[left]


def _layers(genotype: bytes) -> list[Layer]:
    return [Layer(genotype[start], genotype[start + 1]) for start in range(1, len(genotype), 2)]


def _block(build: GraphBuilder, source: int, block: str, width: int) -> int:
    if block == "dense":
        return build.dense(source, width, relu=True)
    inner = build.dense(source, width * INNER[block] // 2, relu=True)
    branch = build.dense(inner, width)
    if build.nodes[source].channels != width:
        source = build.dense(source, width)
    return build.add(source, branch)
