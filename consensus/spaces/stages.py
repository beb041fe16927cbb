"""`stages-v1`: networks for images. A stem, up to three stages of equal blocks, and a head.

Genes, one byte each: stem kernel, stem width; then for each stage depth, block, width, reduction; last the head.
A stage of depth 0 is empty. The reduction halves the map: by a stride in the stage's first block, or by pooling before
it.
Residual blocks add their input, through a 1x1 projection where the shape changes (He et al., arXiv 1512.03385);
separable blocks are a filter per channel and a 1x1 convolution (Howard et al., arXiv 1704.04861).

Widths end at 40 because 25 * 40 products is what a 5x5 convolution can sum exactly (`graph.MAX_PRODUCTS`).
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from consensus.spaces.base import InputShape, InvalidGenotype, Space
from consensus.spaces.graph import Graph, GraphBuilder

STEM_KERNELS = (3, 5)
WIDTHS = (8, 12, 16, 24, 32, 40)
MAX_DEPTH = 3
BLOCKS = ("conv1", "conv3", "conv5", "sep3", "sep5", "res3", "ressep3", "ressep5")
REDUCTIONS = ("none", "stride", "max", "mean")
HEADS = ("mean", "max", "quadrants")
STAGES = 3
STEM_GENES = 2
STAGE_SIZES = (MAX_DEPTH + 1, len(BLOCKS), len(WIDTHS), len(REDUCTIONS))


class Stage(NamedTuple):
    """Four genes; all but `depth` are indices into the tables above."""

    depth: int
    block: int
    width: int
    reduction: int

    def continues(self, before: Stage) -> bool:
        """Whether this stage's first block is one more of the blocks of `before`."""
        return self.reduction == 0 and (self.block, self.width) == (before.block, before.width)


class StagesV1(Space):
    """See the module. 15 genes."""

    name: ClassVar[str] = "stages-v1"
    gene_sizes: ClassVar[tuple[int, ...]] = (len(STEM_KERNELS), len(WIDTHS), *(STAGE_SIZES * STAGES), len(HEADS))

    def canonical(self, genotype: bytes) -> bytes:
        """Blocks are packed into as few stages as possible from the front; empty stages come last, all their genes 0.

        A graph is its list of blocks, and greedy packing of a list is unique: so one graph has one canonical genotype.
        """
        self.validate(genotype)
        depths: list[int] = []
        kinds: list[bytes] = []  # block, width and reduction
        for start in range(STEM_GENES, len(genotype) - 1, len(STAGE_SIZES)):
            depth, kind = genotype[start], genotype[start + 1 : start + len(STAGE_SIZES)]
            if depth and kinds and kind[-1] == 0 and kind[:-1] == kinds[-1][:-1]:  # it continues the stage before
                moved = min(depth, MAX_DEPTH - depths[-1])
                depths[-1] += moved
                depth -= moved
            if depth:
                depths.append(depth)
                kinds.append(kind)
        packed = b"".join([bytes([depth]) + kind for depth, kind in zip(depths, kinds, strict=True)])
        return genotype[:STEM_GENES] + packed.ljust(STAGES * len(STAGE_SIZES), b"\0") + genotype[-1:]

    def decode(self, genotype: bytes, shape: InputShape) -> Graph:
        """See `Space.decode`. A head other than the mean is refused on a map of one pixel, where heads are alike."""
        canonical = self.canonical(genotype)
        build = GraphBuilder(shape)
        last = build.conv(0, WIDTHS[canonical[1]], STEM_KERNELS[canonical[0]])
        for stage in _stages(canonical):
            for position in range(stage.depth):
                stride = 1
                if position == 0 and stage.reduction:
                    stride, last = _reduce(build, last, REDUCTIONS[stage.reduction])
                last = _block(build, last, BLOCKS[stage.block], WIDTHS[stage.width], stride)
        last = _head(build, last, HEADS[canonical[-1]])
        return build.logits(last, shape.classes)

    def text(self, genotype: bytes) -> str:
        """For example `conv3-16 | stride: 2 x res3-24 | max: 1 x sep5-40 | mean`."""
        canonical = self.canonical(genotype)
        parts = [f"conv{STEM_KERNELS[canonical[0]]}-{WIDTHS[canonical[1]]}"]
        for stage in _stages(canonical):
            if stage.depth:
                prefix = f"{REDUCTIONS[stage.reduction]}: " if stage.reduction else ""
                parts.append(f"{prefix}{stage.depth} x {BLOCKS[stage.block]}-{WIDTHS[stage.width]}")
        return " | ".join([*parts, HEADS[canonical[-1]]])

    def distinct_count(self) -> int:
        """Canonical lists of stages are those in which a stage continues the one before only if that one is full."""
        kinds = len(BLOCKS) * len(WIDTHS)
        total, full, partial = 1, 0, 0
        for position in range(STAGES):
            if position == 0:
                each = kinds * len(REDUCTIONS)
                full, partial = each, each * (MAX_DEPTH - 1)
            else:
                each = full * kinds * len(REDUCTIONS) + partial * (kinds * len(REDUCTIONS) - 1)
                full, partial = each, each * (MAX_DEPTH - 1)
            total += full + partial
        return len(STEM_KERNELS) * len(WIDTHS) * len(HEADS) * total

    def count(self, prefix: bytes) -> int:
        """See `Space.count`. The stages are counted from the last to the first; only a full one may be continued."""
        sizes = self.gene_sizes
        if not self._in_range(prefix):
            return 0
        if len(prefix) <= STEM_GENES:
            return math.prod(sizes[len(prefix) : STEM_GENES]) * self._lists(STAGES, None) * sizes[-1]
        stages, heads = prefix[STEM_GENES : len(sizes) - 1], sizes[-1] if len(prefix) < len(sizes) else 1
        before: Stage | None = None
        for left in reversed(range(STAGES)):
            genes, stages = stages[: len(STAGE_SIZES)], stages[len(STAGE_SIZES) :]
            if genes and not genes[0]:
                return heads if not any(genes + stages) else 0
            if len(genes) < len(STAGE_SIZES):
                return self._unfinished(genes, before, left) * heads
            stage = Stage(*genes)
            if before and before.depth < MAX_DEPTH and stage.continues(before):
                return 0
            before = stage
        return heads

    def _lists(self, stages: int, before: Stage | None) -> int:
        """Canonical lists of up to `stages` stages after `before`. Which kind a partial one is of does not matter."""
        first, kinds = 1, math.prod(self.gene_sizes[STEM_GENES + 1 : STEM_GENES + len(STAGE_SIZES)])
        after_full = after_partial = 1
        for _ in range(stages):
            first = after_full + (MAX_DEPTH - 1) * after_partial
            after_full, after_partial = 1 + kinds * first, 1 + (kinds - 1) * first
        return after_partial if before and before.depth < MAX_DEPTH else after_full

    def _unfinished(self, genes: bytes, before: Stage | None, left: int) -> int:
        """Canonical lists whose next stage starts with `genes`, fewer than four, with `left` further stages."""
        if not genes:
            return self._lists(left + 1, before)
        ways = math.prod(self.gene_sizes[STEM_GENES + len(genes) : STEM_GENES + len(STAGE_SIZES)])
        if before and before.depth < MAX_DEPTH and (before.block, before.width)[: len(genes) - 1] == tuple(genes[1:3]):
            ways -= 1  # the one that continues the stage before
        return ways * self._lists(left, Stage(genes[0], 0, 0, 0))


def _stages(genotype: bytes) -> list[Stage]:
    genes = genotype[STEM_GENES:-1]
    return [Stage(*genes[start : start + len(STAGE_SIZES)]) for start in range(0, len(genes), len(STAGE_SIZES))]


def _reduce(build: GraphBuilder, source: int, how: str) -> tuple[int, int]:
    """Stride of the coming block, and the node that it reads."""
    if how == "stride":
        return 2, source
    return 1, build.pool("max_pool" if how == "max" else "sum_pool", source, (2, 2))


def _block(build: GraphBuilder, source: int, block: str, width: int, stride: int) -> int:
    size = int(block[-1])
    if block.startswith("conv"):
        return build.conv(source, width, size, stride)
    if block.startswith("sep"):
        return build.conv(build.depthwise(source, size, stride), width, 1)
    if block == "res3":
        inner = build.conv(source, width, size, stride)
        branch = build.conv(inner, width, size, relu=False)
    else:
        branch = build.conv(build.depthwise(source, size, stride), width, 1, relu=False)
    if stride > 1 or build.nodes[source].channels != width:
        source = build.conv(source, width, 1, stride, relu=False)
    return build.add(source, branch)


def _head(build: GraphBuilder, source: int, head: str) -> int:
    node = build.nodes[source]
    if head != "mean" and node.height == node.width == 1:
        raise InvalidGenotype(f"The head {head!r} sees one pixel, where every head is the same: use 'mean'.")
    if head == "quadrants":
        return build.quadrants(source)
    return build.pool("max_pool" if head == "max" else "sum_pool", source, (node.height, node.width))
