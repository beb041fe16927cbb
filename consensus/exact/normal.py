"""Normalisation per channel in torch: the float tensors of `fast`, the integers of `reference`.

An integer form of batch normalisation (Ioffe and Szegedy, arXiv 1502.03167): the mean by integer division, the scale
from the mean of the positive part (half the mean deviation; Hoffer et al., arXiv 1803.01814), to 8 significant bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consensus.exact import fast
from consensus.exact.recipe import BACK_SHIFT, NORMAL_BITS, PART_BITS, SCALE_BITS
from consensus.spaces.graph import EXACT

F64 = torch.float64
LOW_BITS = 45
"""Bits of a float64's fraction beyond eight significant bits."""


def total(values: Tensor, limit: int) -> Tensor:
    """Sums per channel as float64, of integers up to `limit`: in float32 over as much of one sample as is exact."""
    _, height, width, _ = values.shape
    if values.dtype != F64:
        if height * width * limit <= EXACT:
            return values.sum(dim=(1, 2)).sum(dim=0, dtype=F64)
        if width * limit <= EXACT:
            return values.sum(dim=2).sum(dim=(0, 1), dtype=F64)
    return values.sum(dim=(0, 1, 2), dtype=F64)


def rounded_mean(sums: Tensor, count: int) -> Tensor:
    """sums / count to the nearest integer, halves up. The quotient is correctly rounded, so its floor is exact."""
    return sums.mul_(2).add_(count).div_(2 * count).floor_()


def scale(part: Tensor, target: int) -> Tensor:
    """What to multiply by, a multiple of 2^-24 of eight significant bits, as float64. `part` is at least 2^8."""
    quotient = (target << (PART_BITS + SCALE_BITS)) / part
    return ((quotient.floor_().view(torch.int64) >> LOW_BITS) << LOW_BITS).view(F64).mul_(2.0**-SCALE_BITS)


def normalise(sums: Tensor, relu: bool, target: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, scale, and mean and mean positive part of a batch. Overwrites `sums`, integers of `SUM_BITS`."""
    count = sums.numel() // sums.shape[-1]
    mean = rounded_mean(total(sums, 1 << (NORMAL_BITS - 1)), count)
    fast.rows(sums).sub_(fast.tiled(mean.to(sums.dtype), sums.shape[2]))
    positive = sums.clamp_min_(0) if relu else sums.clamp_min(0)
    part = total(positive, 1 << NORMAL_BITS).mul_(1 << PART_BITS).div_(count).floor_().clamp_min_(1 << PART_BITS)
    factor = scale(part, target)
    fast.rows(sums).mul_(fast.tiled(factor.to(sums.dtype), sums.shape[2]))
    return sums.round_().clamp_(0 if relu else -127, 127), factor, mean, part


def gradient(arrived: Tensor, values: Tensor, relu: bool, target: int, dither: Tensor) -> Tensor:
    """int8 gradient of the shifted sums, but for the scale of each channel, from a 12-bit one of the values.

    `dither`: thresholds in [0, 1). Overwrites `arrived`.
    """
    count = values.numel() // values.shape[-1]
    share = torch.ops.aten.threshold_backward(arrived, values, 0) if relu else arrived
    along = rounded_mean(total(share * values, 4096 * 127), target * count).to(share.dtype)
    if relu:
        fast.rows(share).sub_(fast.tiled(along, values.shape[2]))
        share = torch.ops.aten.threshold_backward(share, values, 0)
    else:
        row = fast.tiled(along, values.shape[2]).expand(fast.rows(values).shape)
        fast.rows(share).sub_(torch.ops.aten.threshold_backward(row, fast.rows(values), 0))
    mean = rounded_mean(total(share, 1 << 18), count).to(share.dtype)
    fast.rows(share).sub_(fast.tiled(mean, values.shape[2]))
    return share.mul_(2.0**-BACK_SHIFT).add_(dither.view(share.shape)).floor_().clamp_(-127, 127)
