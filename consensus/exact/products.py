"""Products of int8 matrices with int32 sums, several times faster than float32 where the processor has them.

Where it has not, some libraries add pairs in 16 bits that saturate. So these serve only after `int8_is_exact`, whose
vectors saturate every such pair, over the shapes that networks use; otherwise float32 products do, within their bound.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MAX_ROWS = (2**31 - 1) // 127**2
"""The longest sum of products of int8 values that fits into 32 bits whatever the values are."""
SHAPES = (
    (1, 1, 1), (3, 9, 5), (32, 10, 10), (7, 25, 8), (257, 40, 12), (33, 1040, 40), (1568, 360, 40), (64, 1000, 16),
    (100, 75, 24), (49, 216, 32), (2, 131, 10), (1, 360, 10),
)  # fmt: skip


def product(left: Tensor, right: Tensor) -> Tensor:
    """int8 (m, k) by int8 (k, n), the left one may be transposed: int32. Only for k up to `MAX_ROWS`.

    Where a size is 1 strides say nothing, and the library takes them for what they are not: float64 serves there.
    Neither does it cope with rows that overlap in memory: such views are copied.
    """
    if left.shape[0] == 1 or left.shape[1] == 1 or right.shape[1] == 1:
        return (left.double() @ right.double()).to(torch.int32)
    if not left.is_contiguous() and not left.t().is_contiguous():
        left = left.contiguous()
    return torch._int_mm(left, right.contiguous())


@lru_cache(maxsize=1)
def int8_is_exact() -> bool:
    """Whether products of int8 on this CPU are exact, in all the vectors. Looked at once per process."""
    try:
        exact = all(_exact(*shape, transposed) for shape in SHAPES for transposed in (False, True))
    except RuntimeError as error:
        logger.info("This CPU has no int8 products (%s); float32 serves.", str(error).split("\n", 1)[0])
        return False
    if not exact:
        logger.info("int8 products are inexact on this CPU; float32 serves.")
    return exact


def _exact(rows: int, inner: int, columns: int, transposed: bool) -> bool:
    index = torch.arange(rows * inner)
    for left_kind in (torch.full((rows * inner,), 127), torch.where(index // 3 % 2 == 0, 127, -127), index % 255 - 127):
        shape = (inner, rows) if transposed else (rows, inner)
        left = left_kind.to(torch.int8).view(shape)
        left = left.t() if transposed else left
        place = torch.arange(inner * columns).view(inner, columns)
        for right in (torch.full_like(place, 127), torch.full_like(place, -127), place * 89 % 255 - 127):
            truth = left.double() @ right.double()
            if not torch.equal(product(left, right.to(torch.int8)).double(), truth):
                return False
    return True
