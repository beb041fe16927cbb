"""Columns of numbers as int8, by counting: no arithmetic on the numbers themselves, so no rounding to agree on.

A value's place among the values of its column, from 0 to 1, is spread over -127 to 127. With n values in the column, of
which `below` are smaller and `upto` smaller or equal, the value becomes

    (254 * (below + upto) + n) // (2 * n) - 127.

Equal values stay equal, larger ones are not smaller, a constant column is 0, and neither units nor outliers matter:
every column is spread evenly. Comparisons of integers or of IEEE doubles are the same on every machine.
"""

from __future__ import annotations

import numpy as np

from consensus.datasets.format import BadDataset


def quantise_columns(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """`values` (samples, columns) as int8, counted among the rows of `fit` (which may be `values`).

    Integers or floats. Raises `BadDataset` for a value that is not a finite number.
    """
    for part in (values, fit):
        if part.dtype.kind not in "iufb":
            raise BadDataset("A table must hold numbers.")
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            row, column = np.argwhere(~np.isfinite(part))[0]
            raise BadDataset(
                f"Row {row + 1}, column {column + 1} is {part[row, column]}: every value must be a finite number."
            )
    count = len(fit)
    out = np.empty(values.shape, dtype=np.int8)
    for column in range(values.shape[1]):
        known = np.sort(fit[:, column])
        below = np.searchsorted(known, values[:, column], "left").astype(np.int64)
        upto = np.searchsorted(known, values[:, column], "right").astype(np.int64)
        out[:, column] = (254 * (below + upto) + count) // (2 * count) - 127
    return out
