"""The operations of `reference` in torch, on float tensors that hold integers. Same integers, and fast.

Why floats: below 2^24 (float64: 2^53) every sum and product of integers is exact in any order, so matrix products of
the processor's best routine are exact; `Graph` and `decode_model` keep the bound, `selftest` checks the device.
Multiplying by a power of two is exact; `round` and `floor` are exact. Convolutions are matrix products of gathered
windows: library convolutions may use inexact algorithms. Gradients carry exponents: on the CPU these are Python
numbers, on an accelerator int32 tensors, so that a step never waits for the device.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as functional
from torch import Tensor

from consensus.exact.plan import MEAN_BITS
from consensus.exact.products import MAX_ROWS, product
from consensus.exact.recipe import GRADIENT_BITS, MEET_BITS
from consensus.spaces.graph import EXACT, Node

MAX_ALIGN = 8
SMALL_WINDOW = 3
Exponent = int | Tensor
"""A power of two that a tensor counts in: a number, or an int32 tensor of no dimension."""


def bit_length(magnitude: Tensor) -> Tensor:
    """Bits of non-negative integers held as floats: int32; 0 for 0."""
    if magnitude.dtype == torch.float64:
        return ((magnitude.view(torch.int64) >> 52) - 1022).clamp_min_(0).to(torch.int32)
    return ((magnitude.view(torch.int32) >> 23) - 126).clamp_min_(0)


def power(exponent: Exponent, dtype: torch.dtype) -> Tensor | float:
    """2^exponent, exactly, for exponents clamped to +-100. For tensors the bits of the float are written directly."""
    if isinstance(exponent, int):
        return 2.0 ** max(-100, min(100, exponent))
    exponent = exponent.clamp(-100, 100)
    if dtype == torch.float64:
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent + 127) << 23).view(torch.float32)


def bits(values: Tensor, like: Exponent) -> Exponent:
    """Bit length of the largest magnitude of the tensor; a number or a tensor, as `like` is."""
    low, high = torch.aminmax(values)
    if isinstance(like, int):
        return int(max(-low.item(), high.item())).bit_length()
    return bit_length(torch.maximum(-low, high))


def excess(values: Tensor, like: Exponent) -> Exponent:
    """Bits of the largest magnitude beyond the 7 of an int8."""
    count = bits(values, like)
    return max(count - 7, 0) if isinstance(count, int) else (count - 7).clamp_min_(0)


def requantise(values: Tensor, exponent: Exponent) -> tuple[Tensor, Exponent]:
    """To int8 by the bit length of the maximum, halves to even. A new tensor and its exponent."""
    shift = excess(values, exponent)
    return (values * power(-shift, values.dtype)).round_().clamp_(-127, 127), exponent + shift


def requantise_dithered(values: Tensor, exponent: Exponent, dither: Tensor) -> tuple[Tensor, Exponent]:
    """To int8 by the bit length of the maximum: floor(value / 2^shift + dither), dither in [0, 1) per element.

    Exact in float32: the shifted value has at most 7 + 17 bits and the dither 8 binary digits, so the sum is exact
    wherever it is below 128, and it is clamped above. Overwrites `values`.
    """
    shift = excess(values, exponent)
    if not isinstance(shift, int) or shift:
        values.mul_(power(-shift, values.dtype)).add_(dither.view(values.shape)).floor_().clamp_(-127, 127)
    return values, exponent + shift


def to_bits(values: Tensor, exponent: Exponent, wanted: int) -> tuple[Tensor, Exponent]:
    """Scaled by a power of two so that the largest magnitude has `wanted` bits, halves to even. A new tensor."""
    shift = bits(values, exponent) - wanted
    return (values * power(-shift, values.dtype)).round_(), exponent + shift


def meet(one: Tensor, exp_one: Exponent, two: Tensor, exp_two: Exponent) -> tuple[Tensor, Exponent]:
    """Sum of two gradients of 14 bits, in units of the finer exponent, at most 8 bits below the coarser."""
    one, exp_one = to_bits(one, exp_one, MEET_BITS)
    two, exp_two = to_bits(two, exp_two, MEET_BITS)
    exponent: Exponent
    if isinstance(exp_one, int) and isinstance(exp_two, int):
        exponent = max(min(exp_one, exp_two), max(exp_one, exp_two) - MAX_ALIGN)
    else:
        left, right = torch.as_tensor(exp_one), torch.as_tensor(exp_two)
        exponent = torch.maximum(torch.minimum(left, right), torch.maximum(left, right) - MAX_ALIGN)
    aligned = one.mul_(power(exp_one - exponent, one.dtype)).floor_()
    return aligned.add_(two.mul_(power(exp_two - exponent, two.dtype)).floor_()), exponent


def windows(padded: Tensor, node: Node) -> Tensor:
    """What the outputs see: a view (kh, kw, batch, height, width, channels) of the padded input."""
    strides = padded.stride()
    (high, wide), (down, right) = node.kernel, node.stride
    return padded.as_strided(
        (high, wide, padded.shape[0], node.height, node.width, padded.shape[3]),
        (strides[1], strides[2], strides[0], strides[1] * down, strides[2] * right, strides[3]),
    )


def taps(padded: Tensor, node: Node) -> list[Tensor]:
    """Views (batch, height, width, channels) of what the outputs see at each place of the window, row by row."""
    return [view for row in windows(padded, node).unbind() for view in row.unbind()]


def padded_size(node: Node) -> tuple[int, int]:
    """Rows and columns that the windows of a node cover, padding included."""
    return (
        (node.height - 1) * node.stride[0] + node.kernel[0],
        (node.width - 1) * node.stride[1] + node.kernel[1],
    )


def pad(values: Tensor, node: Node) -> Tensor:
    """Zero padded above and left by `node.pad`, below and right (or cropped) to what the windows cover."""
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


def gather(values: Tensor, node: Node) -> Tensor:
    """Windows as rows of a matrix: (batch * height * width, kh * kw * channels)."""
    if node.kernel == (1, 1) and node.stride == (1, 1):
        return values.reshape(-1, values.shape[-1])
    padded, kind = pad(values, node), values.dtype
    if kind == torch.int8 and padded.shape[3] % 4 == 0:
        padded = padded.view(torch.int32)  # four at a time
    seen = windows(padded, node).permute(2, 3, 4, 0, 1, 5)
    return seen.reshape(values.shape[0] * node.height * node.width, -1).view(kind)


def conv(columns: Tensor, weights: Tensor, node: Node) -> Tensor:
    """Exact product of gathered windows and weights: (batch, height, width, channels out).

    Float tensors as everywhere, or int8, which give float32.
    """
    return _product(columns, weights).view(-1, node.height, node.width, node.channels)


def _product(left: Tensor, right: Tensor) -> Tensor:
    if left.dtype == torch.int8:
        return product(left, right).to(torch.float32)
    return torch.mm(left, right)


def conv_weight_gradient(columns: Tensor, gradient: Tensor, limit: int = 127) -> Tensor:
    """columns^T @ gradient as float64: blocks whose sums stay exact are multiplied, and added in float64.

    `limit`: largest magnitude in `columns`. Both may be int8.
    """
    rows = columns.shape[0]
    if columns.dtype == torch.int8:
        flat = gradient.reshape(rows, -1)
        found = [
            product(columns[start : start + MAX_ROWS].t(), flat[start : start + MAX_ROWS]).to(torch.float64)
            for start in range(0, rows, MAX_ROWS)
        ]
        return sum(found[1:], start=found[0])
    block = next(size for size in range(min(rows, (EXACT - 1) // (127 * limit)), 0, -1) if rows % size == 0)
    left = columns.view(rows // block, block, -1).transpose(1, 2)
    return torch.bmm(left, gradient.reshape(rows // block, block, -1)).sum(dim=0, dtype=torch.float64)


def conv_input_gradient(gradient: Tensor, weights: Tensor, node: Node, shape: torch.Size) -> Tensor:
    """Gradient of a convolution's input: each window's share, added up where windows overlap. Exact by the bound."""
    if node.kernel == (1, 1) and node.stride == (1, 1):
        return _product(gradient.reshape(-1, node.channels), weights.t().contiguous()).view(shape)
    if node.stride == (1, 1) and shape[1:3] == gradient.shape[1:3]:
        # The same as a convolution of the gradient by the weights turned round: no sums into overlapping windows.
        turned = weights.view(-1, shape[3], node.channels).flip(0).transpose(1, 2).reshape(-1, shape[3])
        return _product(gather(gradient, node), turned).view(shape)
    shares = _product(gradient.reshape(-1, node.channels), weights.t().contiguous())
    rows, columns = padded_size(node)
    padded = shares.new_zeros((shape[0], rows, columns, shape[3]))
    shares = shares.view(shape[0], node.height, node.width, -1, shape[3])
    for view, share in zip(taps(padded, node), shares.unbind(3), strict=True):
        view.add_(share)
    return unpad(padded, node, shape)


def rows(values: Tensor) -> Tensor:
    """(batch, height, width, channels) as (batch, height, width * channels): long runs make fast loops."""
    return values.flatten(2)


def tiled(by_channel: Tensor, width: int) -> Tensor:
    """Values by channel repeated along a row of pixels, as `rows` has them."""
    return by_channel.repeat(width) if width > 1 else by_channel


def depthwise(values: Tensor, weights: Tensor, node: Node, biases: Tensor | None = None) -> Tensor:
    """One filter per channel, and a bias if there is one."""
    shape = (values.shape[0], node.height, node.width, node.channels)
    out = (
        values.new_zeros(shape) if biases is None else biases.expand(shape).clone(memory_format=torch.contiguous_format)
    )
    into, by_tap = rows(out), weights.repeat(1, node.width).unbind()
    for view, one in zip(taps(pad(values, node), node), by_tap, strict=True):
        into.addcmul_(rows(view), one)
    return out


def depthwise_weight_gradient(values: Tensor, gradient: Tensor, node: Node) -> Tensor:
    """(kh * kw, channels) as float64: float32 sums over as many rows of pixels as is exact, then float64 sums."""
    exact = (0, 1) if len(values) * node.height <= (EXACT - 1) // 127**2 else (1,)
    found = []
    for seen in windows(pad(values, node), node).unbind():  # a row of the window at a time, to spare memory
        shares = torch.mul(seen, gradient, out=gradient.new_empty(seen.shape))
        shares = shares.view(-1, len(values), node.height, node.width * node.channels)
        parts = shares.sum(dim=tuple(i + 1 for i in exact)).view(len(shares), -1, node.channels)
        found.append(parts.sum(dim=1, dtype=torch.float64))
    return torch.cat(found)


def depthwise_input_gradient(gradient: Tensor, weights: Tensor, node: Node, shape: torch.Size) -> Tensor:
    """Gradient of the input of `depthwise`."""
    if node.stride == (1, 1) and shape == gradient.shape:
        return depthwise(gradient, weights.flip(0), node)
    high, wide = padded_size(node)
    padded = gradient.new_zeros((shape[0], high, wide, shape[3]))
    for view, one in zip(taps(padded, node), weights.unbind(), strict=True):
        view.addcmul_(gradient, one)
    return unpad(padded, node, shape)


def pool(values: Tensor, node: Node) -> Tensor:
    """Sum or maximum over windows: (batch, height, width, channels), of any type. Only windows of sums may overlap.

    A new tensor. Large windows of floats go through the library's pools: comparisons cannot round, nor can sums of
    integers that stay exact.
    """
    padded, most = pad(values, node), node.kind == "max_pool"
    if values.is_floating_point() and max(node.kernel) > SMALL_WINDOW:
        planes = padded.permute(0, 3, 1, 2)
        if most:
            planes = functional.max_pool2d(planes, node.kernel, node.stride)
        else:
            planes = functional.avg_pool2d(planes, node.kernel, node.stride, divisor_override=1)
        return planes.permute(0, 2, 3, 1).contiguous()
    combine, (down, right) = torch.maximum if most else torch.add, node.stride
    rows, columns = (node.height - 1) * down + 1, (node.width - 1) * right + 1
    by_row = reduce(combine, (padded[:, row : row + rows : down] for row in range(node.kernel[0])))
    seen = (by_row[:, :, column : column + columns : right] for column in range(node.kernel[1]))
    out = reduce(combine, seen)
    return out.clone(memory_format=torch.contiguous_format) if node.kernel == (1, 1) else out.contiguous()


def averaged(sums: Tensor, node: Node, mean: tuple[int, int] | None) -> Tensor:
    """A pool's values with multiplier and shift of its mean, if it is one, and its ReLU applied. Overwrites `sums`."""
    if mean is not None and mean != (1 << MEAN_BITS, MEAN_BITS):
        sums.mul_(mean[0] * 2.0 ** -mean[1]).round_()
    return sums.clamp_min_(0) if node.relu else sums


def add(left: Tensor, right: Tensor, power_left: int, power_right: int, node: Node) -> Tensor:
    """A sum of two branches times powers of two, in int8's range: a new tensor."""
    value = torch.add(left * 2.0**power_left if power_left else left, right, alpha=2.0**power_right)
    if power_left or power_right:
        value.round_()
    return value.clamp_(0 if node.relu else -127, 127)


def pool_gradient(gradient: Tensor, values: Tensor, out: Tensor, node: Node) -> Tensor:
    """Every pixel of a sum gets the gradient; of a maximum, every pixel that attains it."""
    if node.overlaps:
        if node.stride == (1, 1) and values.shape == gradient.shape:
            return pool(gradient, node)
        padded = gradient.new_zeros((gradient.shape[0], *padded_size(node), gradient.shape[3]))
        for view in taps(padded, node):
            view.add_(gradient)
        return unpad(padded, node, values.shape)
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


def scale_gradient(gradient: Tensor, dtype: torch.dtype, like: Exponent) -> Tensor:
    """Weight gradient (float64) scaled by a power of two so that its maximum has 12 bits, halves to even."""
    shift = bits(gradient, like) - GRADIENT_BITS
    return gradient.mul_(power(-shift, torch.float64)).round_().to(dtype)
