"""What is fixed about the arithmetic of a network before any sample is seen: shifts, exponents and ranges.

Every layer of weights but the last is followed by a normalisation per channel, which brings its values back to one
scale. So exponents need not follow the data: they depend on the graph alone, and a prediction on its sample alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from consensus.spaces.graph import EXACT, Graph

SUM_BITS = 14
"""Sums of products are shifted right until the largest that could occur has this many bits."""
MEAN_BITS = 15
"""A mean over n pixels is a sum times round(2^15 / n), shifted right by 15."""
HEAD_BITS = 3
"""A mean that only the logits read keeps up to this many bits more, because means over a map differ little."""


@dataclass(frozen=True, slots=True)
class Plan:
    """By node index.

    `limits`: largest magnitude of a node's values. `exponents`: the power of two in which they count. `shifts`: of the
    sums of normalised layers. `means`: multiplier and shift of each sum pool. `halved`: whether samples are halved.
    """

    limits: tuple[int, ...]
    exponents: tuple[int, ...]
    shifts: dict[int, int]
    means: dict[int, tuple[int, int]]
    halved: bool


@lru_cache(maxsize=256)
def plan(graph: Graph) -> Plan:
    """The plan of a graph.

    Samples enter whole where every reader is a convolution whose sums of values up to 255 are exact; otherwise halved.
    A sum of n + 1 normalised branches is shifted right by the bit length of (n + 1) / 8.
    """
    shapes, nodes = graph.weight_shapes, graph.nodes
    last = len(nodes) - 1
    whole = all(
        node.kind == "conv" and shapes[index][0] * 255 * 127 < EXACT
        for index, node in enumerate(nodes)
        if 0 in node.inputs
    )
    limits, exponents, merged = [255 if whole else 127], [0], [0]
    shifts, means = {}, {}
    for index, node in enumerate(nodes[1:], start=1):
        source = node.inputs[0]
        limit, exponent, count = 127, 0, 0
        if index in shapes:
            shifts[index] = max(0, (shapes[index][0] * limits[source] * 127).bit_length() - SUM_BITS)
        elif node.kind == "add":
            count = merged[source] + merged[node.inputs[1]] + 1
            exponent = ((count + 1) >> 3).bit_length()
        else:
            exponent, count = exponents[source], merged[source]
            if node.kind == "sum_pool":
                pixels, extra = node.kernel[0] * node.kernel[1], 0
                if pixels > 1 and index == last - 1:
                    extra = next(
                        h for h in range(HEAD_BITS, -1, -1) if shapes[last][0] * (127 << h) * 127 < EXACT or not h
                    )
                means[index] = (2 * (1 << MEAN_BITS) + pixels) // (2 * pixels), MEAN_BITS - extra
                limit, exponent = 127 << extra, exponent - extra
        limits.append(limit)
        exponents.append(exponent)
        merged.append(count)
    shifts.pop(last, None)
    return Plan(tuple(limits), tuple(exponents), shifts, means, not whole)
