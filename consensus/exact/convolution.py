"""Convolutions of bytes with bias, shift, rounding and clipping in one pass: oneDNN's, for evaluation on a CPU.

The library means them for quantised networks. With scales that are powers of two nothing in them rounds but the last
step, halves to even. Processors without VNNI add pairs of products in 16 bits that saturate, but not for inputs up to
127. So each kind of input serves only after its own vectors, which saturate every pair that can; for the others float32
products do (`inference`).
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

    `shape`: (batch, height, width, channels) of the input; other batches are computed as well, but more slowly.
    """

    def __init__(self, node: Node, layer: Layer, kind: str, shape: tuple[int, int, int, int]) -> None:
        groups = node.channels if node.kind == "depthwise" else 1
        filters = (
            torch.tensor(layer.weights, dtype=torch.int8).view(*node.kernel, -1, node.channels).permute(3, 2, 0, 1)
        )
        scales = np.ldexp(1.0, -layer.shifts.astype(int))
        self.scales = torch.tensor(scales, dtype=torch.float32)
        self.biases = torch.tensor(layer.biases * scales, dtype=torch.float32)
        self.zeros = torch.zeros(node.channels, dtype=torch.int64)
        self.zero = ZERO if kind == "signed" else 0
        self.geometry = list(node.stride), [node.pad, node.pad], [1, 1], groups
        self.bounds = (0, [0.0, 127.0]) if node.relu else (ZERO, [-127.0, 127.0])
        self.filters = torch.ops.onednn.qconv_prepack(
            filters.contiguous(), self.scales, 1.0, self.zero, *self.geometry, [shape[0], shape[3], *shape[1:3]]
        )

    def __call__(self, values: Tensor) -> Tensor:
        """uint8 (batch, height, width, channels), before and after."""
        zero, bounds = self.bounds
        planes: Tensor = torch.ops.onednn.qconv_pointwise(
            values.permute(0, 3, 1, 2), 1.0, self.zero, self.filters, self.scales, self.zeros, self.biases,
            *self.geometry, 1.0, zero, torch.uint8, "hardtanh", bounds, "",
        )  # fmt: skip
        return planes.permute(0, 2, 3, 1)


@lru_cache(maxsize=len(RANGES))
def is_exact(kind: str) -> bool:
    """Whether convolutions of bytes of this kind are exact on this CPU, in all the vectors. Looked at once."""
    try:
        exact = all(_exact(node, channels, kind) for node, channels in _vectors())
    except (RuntimeError, AttributeError) as error:
        logger.info("This CPU has no convolutions of bytes (%s); float32 serves.", str(error).split("\n", 1)[0])
        return False
    if not exact:
        logger.info("Convolutions of %s bytes are inexact on this CPU; float32 serves.", kind)
    return exact


def _vectors() -> Iterator[tuple[Node, int]]:
    """Nodes, and the channels of their inputs, which are maps of 9 x 7."""
    for size, step, before, after in SIZES:
        height, width, kernel, stride = -(-9 // step), -(-7 // step), (size, size), (step, step)
        for relu in (False, True):
            yield Node("conv", (0,), height, width, after, kernel, stride, size // 2, relu), before
            yield Node("depthwise", (0,), height, width, before, kernel, stride, size // 2, relu), before


def _exact(node: Node, channels: int, kind: str) -> bool:
    """Largest values, alternating ones and a mixture; by channel, all shifts, and biases that make halves."""
    low, high = RANGES[kind]
    shape, rows = (3, 9, 7, channels), node.kernel[0] * node.kernel[1] * (channels if node.kind == "conv" else 1)
    place, weight = np.arange(np.prod(shape)).reshape(shape), np.arange(rows * node.channels).reshape(rows, -1)
    channel = np.arange(node.channels)
    shifts = (channel * 7 + 9) % (MAX_SHIFT + 1)
    biases = np.where(channel % 2, -127 * channel, (1 << shifts) // 2)
    zero = ZERO if kind == "signed" else 0
    mixture = low + place * 89 % (high - low + 1)
    for values in (np.full(shape, high), np.where(place // 3 % 2, low, high), mixture):
        for weights in (np.full_like(weight, 127), np.full_like(weight, -127), weight * 31 % 255 - 127):
            layer = Layer(weights.astype(np.int8), biases.astype(np.int32), shifts.astype(np.uint8))
            computed = ByteConvolution(node, layer, kind, shape)(torch.tensor(values + zero, dtype=torch.uint8))
            truth = reference.affine(reference.linear(values, weights, node), layer)
            truth = np.maximum(truth, 0) if node.relu else truth + ZERO
            if not np.array_equal(computed.numpy(), truth):
                return False
    return True
