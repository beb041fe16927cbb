"""The operations of `reference` in torch, on float tensors that hold integers. Same integers, and fast.

Why floats: below 2^24 (float64: 2^53) every sum and product of integers is exact in any order, so matrix products of
the processor's best routine are exact; `Graph` and `decode_model` keep the bound, `selftest` checks the device.
Multiplying by a power of two is exact; `round` and `floor` are exact. Convolutions are matrix products of gathered
windows: library convolutions may use inexact algorithms. Exponents are 0-dimensional int32 tensors (in evaluation one
per sample), so that a training step never waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from consensus.exact.recipe import GRADIENT_BITS
from consensus.spaces.graph import MAX_PRODUCTS, Node

MAX_ALIGN = 15


def bit_length(magnitude: Tensor) -> Tensor:
    """Bits of non-negative integers held as floats: int32; 0 for 0."""
    if magnitude.dtype == torch.float64:
        return ((magnitude.view(torch.int64) >> 52) - 1022).clamp_min_(0).to(torch.int32)
    return ((magnitude.view(torch.int32) >> 23) - 126).clamp_min_(0)


def power(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent, exactly, for int32 exponents clamped to +-100: the bits of the float are written directly."""
    exponent = exponent.clamp(-100, 100)
    if dtype == torch.float64:
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent + 127) << 23).view(torch.float32)


def largest(values: Tensor, per_sample: bool = False) -> Tensor:
    """The largest magnitude: of the tensor, or of each sample (with dimensions kept)."""
    if per_sample:
        return values.abs().amax(dim=tuple(range(1, values.dim())), keepdim=True)
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high)


def requantise(values: Tensor, exponent: Tensor, relu: bool, per_sample: bool = False) -> tuple[Tensor, Tensor]:
    """To int8 by the bit length of the maximum, rounding half to even. Overwrites `values`. Returns (int8, exponent)."""
    if relu:
        values.clamp_min_(0)
    shift = (bit_length(largest(values, per_sample)) - 7).clamp_min_(0)
    values.mul_(power(-shift, values.dtype)).round_().clamp_(-127, 127)
    return values, exponent + shift


def requantise_dithered(values: Tensor, exponent: Tensor, dither: Tensor) -> tuple[Tensor, Tensor]:
    """To int8 by the bit length of the maximum: floor(value / 2^shift + dither), dither in [0, 1) per element.

    Exact in float32: the shifted value has at most 7 + 17 bits and the dither 8 binary digits, so the sum is exact
    wherever it is below 128, and it is clamped above. Overwrites `values`.
    """
    shift = (bit_length(largest(values)) - 7).clamp_min_(0)
    values.mul_(power(-shift, values.dtype)).add_(dither.view(values.shape)).floor_().clamp_(-127, 127)
    return values, exponent + shift


def align_add(one: Tensor, exp_one: Tensor, two: Tensor, exp_two: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of two int8 tensors of different exponents, in units of the finer one, at most 15 bits below the coarser."""
    exponent = torch.maximum(torch.minimum(exp_one, exp_two), torch.maximum(exp_one, exp_two) - MAX_ALIGN)
    left = (one * power(exp_one - exponent, one.dtype)).floor_()
    right = (two * power(exp_two - exponent, two.dtype)).floor_()
    return left.add_(right), exponent


def windows(values: Tensor, node: Node) -> Tensor:
    """The window of each output: a view (batch, height, width, kh, kw, channels) of the zero padded input."""
    padded = pad(values, node)
    batch, _, _, channels = padded.shape
    strides = padded.stride()
    (high, wide), (down, right) = node.kernel, node.stride
    return padded.as_strided(
        (batch, node.height, node.width, high, wide, channels),
        (strides[0], strides[1] * down, strides[2] * right, strides[1], strides[2], strides[3]),
    )


def padded_size(node: Node) -> tuple[int, int]:
    """Rows and columns that the windows of a node cover, padding included."""
    return (
        (node.height - 1) * node.stride[0] + node.kernel[0],
        (node.width - 1) * node.stride[1] + node.kernel[1],
    )


def pad(values: Tensor, node: Node) -> Tensor:
    """Zero padded above and left by `node.pad`, below and right to what the windows cover (cropped where they do not)."""
    rows, columns = padded_size(node)
    below, right = rows - node.pad - values.shape[1], columns - node.pad - values.shape[2]
    if below == right == node.pad == 0:
        return values if values.is_contiguous() else values.contiguous()
    return functional.pad(values, (0, 0, node.pad, right, node.pad, below)).contiguous()


def unpad(padded: Tensor, node: Node, shape: torch.Size) -> Tensor:
    """The part of a padded gradient that belongs to an input of `shape`; rows no window covered get 0."""
    rows, columns = padded_size(node)
    below, right = shape[1] - rows + node.pad, shape[2] - columns + node.pad
    if below == right == node.pad == 0:
        return padded
    return functional.pad(padded, (0, 0, -node.pad, right, -node.pad, below)).contiguous()


def tap(padded: Tensor, node: Node, row: int, column: int) -> Tensor:
    """View of the pixels that windows see at (row, column): (batch, height, width, channels)."""
    down, right = node.stride
    return padded[
        :, row : row + (node.height - 1) * down + 1 : down, column : column + (node.width - 1) * right + 1 : right
    ]


def gather(values: Tensor, node: Node) -> Tensor:
    """Windows as rows of a matrix: (batch * height * width, kh * kw * channels)."""
    if node.kernel == (1, 1) and node.stride == (1, 1):
        return values.reshape(-1, values.shape[-1])
    return windows(values, node).reshape(values.shape[0] * node.height * node.width, -1)


def conv(columns: Tensor, weights: Tensor, node: Node) -> Tensor:
    """Exact product of gathered windows and weights: (batch, height, width, channels out)."""
    return torch.mm(columns, weights).view(-1, node.height, node.width, node.channels)


def conv_weight_gradient(columns: Tensor, gradient: Tensor) -> Tensor:
    """columns^T @ gradient as float64: blocks whose sums stay exact are multiplied, and added in float64."""
    rows = columns.shape[0]
    block = next(size for size in range(min(rows, MAX_PRODUCTS), 0, -1) if rows % size == 0)
    left = columns.view(rows // block, block, -1).transpose(1, 2)
    return torch.bmm(left, gradient.reshape(rows // block, block, -1)).sum(dim=0, dtype=torch.float64)


def conv_input_gradient(gradient: Tensor, weights: Tensor, node: Node, shape: torch.Size) -> Tensor:
    """Gradient of a convolution's input: each window's share, added up where windows overlap. Exact by the bound."""
    shares = torch.mm(gradient.reshape(-1, node.channels), weights.t())
    if node.kernel == (1, 1) and node.stride == (1, 1):
        return shares.view(shape)
    rows, columns = padded_size(node)
    padded = shares.new_zeros((shape[0], rows, columns, shape[3]))
    shares = shares.view(shape[0], node.height, node.width, node.kernel[0], node.kernel[1], shape[3])
    for row in range(node.kernel[0]):
        for column in range(node.kernel[1]):
            tap(padded, node, row, column).add_(shares[:, :, :, row, column])
    return unpad(padded, node, shape)


def depthwise(values: Tensor, weights: Tensor, node: Node) -> Tensor:
    """One filter per channel."""
    padded = pad(values, node)
    out = values.new_zeros((values.shape[0], node.height, node.width, node.channels))
    for index in range(weights.shape[0]):
        out.addcmul_(tap(padded, node, *divmod(index, node.kernel[1])), weights[index])
    return out


def depthwise_weight_gradient(values: Tensor, gradient: Tensor, node: Node) -> Tensor:
    """(kh * kw, channels) as float64: float32 sums along rows of one image, which are exact, then float64 sums."""
    padded = pad(values, node)
    parts = [
        (tap(padded, node, *divmod(index, node.kernel[1])) * gradient).sum(dim=2).sum(dim=(0, 1), dtype=torch.float64)
        for index in range(node.kernel[0] * node.kernel[1])
    ]
    return torch.stack(parts)


def depthwise_input_gradient(gradient: Tensor, weights: Tensor, node: Node, shape: torch.Size) -> Tensor:
    """Gradient of the input of `depthwise`."""
    rows, columns = padded_size(node)
    padded = gradient.new_zeros((shape[0], rows, columns, shape[3]))
    for index in range(weights.shape[0]):
        tap(padded, node, *divmod(index, node.kernel[1])).addcmul_(gradient, weights[index])
    return unpad(padded, node, shape)


def pool(values: Tensor, node: Node) -> Tensor:
    """Sum or maximum over windows that lie side by side: (batch, height, width, channels)."""
    tiles = _tiles(values, node)
    return tiles.sum(dim=(2, 4)) if node.kind == "sum_pool" else tiles.amax(dim=(2, 4))


def pool_gradient(gradient: Tensor, values: Tensor, out: Tensor, node: Node) -> Tensor:
    """Every pixel of a sum gets the gradient; of a maximum, every pixel that attains it."""
    spread = gradient[:, :, None, :, None]
    if node.kind == "max_pool":
        tiles = spread * (_tiles(values, node) == out[:, :, None, :, None])
    else:
        batch, height, width, channels = gradient.shape
        tiles = spread.expand(batch, height, node.kernel[0], width, node.kernel[1], channels)
    padded = tiles.reshape(gradient.shape[0], *padded_size(node), gradient.shape[3])
    return unpad(padded, node, values.shape)


def _tiles(values: Tensor, node: Node) -> Tensor:
    (high, wide), batch, channels = node.kernel, values.shape[0], values.shape[3]
    return pad(values, node).view(batch, node.height, high, node.width, wide, channels)


def scale_gradient(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight gradient (float64) scaled by a power of two so that its maximum has 12 bits, rounded half to even."""
    shift = bit_length(largest(gradient)) - GRADIENT_BITS
    return gradient.mul_(power(-shift, torch.float64)).round_().to(dtype)
