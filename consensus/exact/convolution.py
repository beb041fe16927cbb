"""Convolutions of bytes with bias, shift, rounding and clipping in one pass: oneDNN's, for evaluation on a CPU.

The library means them for quantised networks. With scales that are powers of two nothing in them rounds but the last
step, halves to even. Processors without VNNI add pairs of products in 16 bits, which saturate where inputs are larger
than 127. There a convolution is split: the input stands twice, before the two halves of each weight, and 2 * 255 * 64
does not saturate. Each way and kind of input serves only after its own vectors, which saturate every pair that can;
float32 products do otherwise (`inference`). A kernel of one place with a stride is given the places that it reads: with
AVX2 and several threads the library gathers them itself, into memory that its threads overwrite for one another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from consensus.exact import reference
from consensus.exact.model import Layer
from consensus.exact.recipe import MAX_SHIFT
from consensus.spaces.graph import Node

logger = logging.getLogger(__name__)

ZERO = 128
"""What is added to values of both signs to make bytes of them."""
RANGES = {"small": (0, 127), "whole": (0, 255), "signed": (-128, 127)}
"""Kinds of values in bytes: what a ReLU leaves, samples, and values of both signs, which have `ZERO` added."""
SIZES = ((1, 1, 1, 24), (1, 2, 8, 5), (3, 1, 1, 16), (3, 1, 40, 11), (3, 2, 16, 40), (5, 1, 32, 32), (5, 2, 20, 8))
"""Kernel, stride, channels before and after of the vectors; as depthwise convolutions, with the channels before."""


class ByteConvolution:
    """A layer on bytes. The result is bytes too: `small` where the node has a ReLU, `signed` otherwise.

    `split`: see the module; for `conv` only. `shape`: (batch, height, width, channels) of the input; other batches are
    computed as well, but more slowly.
    """

    def __init__(self, node: Node, layer: Layer, kind: str, split: bool, shape: tuple[int, int, int, int]) -> None:
        groups, self.split = node.channels if node.kind == "depthwise" else 1, split
        by_tap = torch.tensor(layer.weights, dtype=torch.int8).view(*node.kernel, -1, node.channels)
        filters = by_tap.permute(3, 2, 0, 1)
        if split:
            filters = torch.cat([filters >> 1, filters - (filters >> 1)], dim=1)
        scales = np.ldexp(1.0, -layer.shifts.astype(int))
        self.scales = torch.tensor(scales, dtype=torch.float32)
        self.biases = torch.tensor(layer.biases * scales, dtype=torch.float32)
        self.zeros = torch.zeros(node.channels, dtype=torch.int64)
        self.zero = ZERO if kind == "signed" else 0
        single = node.kernel == (1, 1) and node.pad == 0
        self.steps, strides = (node.stride, (1, 1)) if single else ((1, 1), node.stride)
        self.geometry = list(strides), [node.pad, node.pad], [1, 1], groups
        self.bounds = (0, [0.0, 127.0]) if node.relu else (ZERO, [-127.0, 127.0])
        self.filters = torch.ops.onednn.qconv_prepack(
            filters.contiguous(), self.scales, 1.0, self.zero, *self.geometry,
            [shape[0], filters.shape[1] * groups, -(-shape[1] // self.steps[0]), -(-shape[2] // self.steps[1])],
        )  # fmt: skip

    def __call__(self, values: Tensor) -> Tensor:
        """uint8 (batch, height, width, channels), before and after."""
        zero, bounds = self.bounds
        if self.steps != (1, 1):
            values = values[:, :: self.steps[0], :: self.steps[1]].contiguous()
        values = torch.cat([values, values], dim=3) if self.split else values
        planes: Tensor = torch.ops.onednn.qconv_pointwise(
            values.permute(0, 3, 1, 2), 1.0, self.zero, self.filters, self.scales, self.zeros, self.biases,
            *self.geometry, 1.0, zero, torch.uint8, "hardtanh", bounds, "",
        )  # fmt: skip
        return planes.permute(0, 2, 3, 1)


@lru_cache(maxsize=2 * len(RANGES))
def is_exact(kind: str, split: bool) -> bool:
    """Whether convolutions of bytes of this kind are exact on this CPU, in all the vectors. Looked at once."""
    try:
        exact = all(_exact(node, channels, kind, split) for node, channels in _vectors(split))
    except (RuntimeError, AttributeError) as error:
        logger.info("This CPU has no convolutions of bytes (%s); float32 serves.", str(error).split("\n", 1)[0])
        return False
    if not exact:
        logger.info("%s of %s bytes are inexact on this CPU.", "Split convolutions" if split else "Convolutions", kind)
    return exact


def _vectors(split: bool) -> Iterator[tuple[Node, int]]:
    """Nodes, and the channels of their inputs, which are maps of 9 x 7."""
    for size, step, before, after in SIZES:
        height, width, kernel, stride = -(-9 // step), -(-7 // step), (size, size), (step, step)
        for relu in (False, True):
            yield Node("conv", (0,), height, width, after, kernel, stride, size // 2, relu), before
            if not split:
                yield Node("depthwise", (0,), height, width, before, kernel, stride, size // 2, relu), before


def _exact(node: Node, channels: int, kind: str, split: bool) -> bool:
    """Largest values, alternating ones and a mixture; by channel, all shifts, and biases that make halves."""
    low, high = RANGES[kind]
    shape, rows = (3, 9, 7, channels), node.kernel[0] * node.kernel[1] * (channels if node.kind == "conv" else 1)
    place, weight = np.arange(np.prod(shape)).reshape(shape), np.arange(rows * node.channels).reshape(rows, -1)
    channel = np.arange(node.channels)
    shifts = (channel * 7 + 9) % (MAX_SHIFT + 1)
    biases = np.where(channel % 2, -127 * channel, (1 << shifts) // 2)
    zero = ZERO if kind == "signed" else 0
    most, mixture = np.full(shape, high), low + place * 89 % (high - low + 1)
    heavy, mixed = np.full_like(weight, 127), weight * 31 % 255 - 127
    alternating = np.where(place // 3 % 2, low, high)
    for values, weights in (
        (most, heavy),
        (most, -heavy),
        (mixture, mixed),
        (alternating, mixed),
        (alternating, heavy),
    ):
        layer = Layer(weights.astype(np.int8), biases.astype(np.int32), shifts.astype(np.uint8))
        given = torch.tensor(values + zero, dtype=torch.uint8)
        computed = ByteConvolution(node, layer, kind, split, shape)(given).numpy()
        truth = reference.affine(reference.linear(values, weights, node), layer)
        if not np.array_equal(computed, np.maximum(truth, 0) if node.relu else truth + ZERO):
            return False
    return True
