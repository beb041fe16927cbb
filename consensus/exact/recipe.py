"""The training recipe: a small closed set of integers, and the constants of exact training.

The recipe follows what was measured (docs/exact-training.md): sign steps with momentum and a linearly falling rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np

MASTER_BITS = 15
"""Initial master weights lie within 2^15; a master weight w stands for w * 2^(exponent of its layer)."""
MASTER_LIMIT = 1 << 22
"""Master weights are clamped to this, so that float32 holds them exactly."""
GRADIENT_BITS = 12
"""Weight gradients are scaled so that the largest of a layer has this many bits."""
NORMAL_BITS = 15
"""Bits of a shifted sum once its channel's mean is subtracted."""
NORMAL_TARGET = 4
"""Normalisation makes the mean of a channel's positive part 4: its largest values then fit into an int8."""
PART_BITS, SCALE_BITS, SCALE_DIGITS = 8, 24, 8
"""Mean positive parts are multiples of 2^-8, scales multiples of 2^-24 with 8 significant bits."""
MAX_SHIFT = 16
"""In evaluation sums are shifted right by at most this: what is rounded then has 24 bits even with 128 added."""
RUNNING_SHIFT = 4
"""Running means move by 1 / 2^4 of the way to each batch's mean."""
RUNNING_LIMIT = 1 << 23
NORMAL_GRADIENT_BITS, MEET_BITS, BACK_SHIFT = 12, 14, 5
"""Bits of a gradient that enters a normalisation, of gradients that meet, and bits that are rounded off behind one."""
MOMENTUM_LIMIT = 1 << 15
"""Momentum m becomes trunc(7 m / 8) + g with |g| <= 2^12, so it stays within 8 * 2^12."""
PROBABILITY_BITS = 14
"""Softmax probabilities are integers over 2^14."""
LOGIT_BITS = 4
"""Logits enter the softmax as multiples of 2^-4."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`steps` of `batch` samples in `segments` equal parts; the rate falls smoothly from `learning_rate` to 1.

    Rates are in units of master weights. Raises ValueError for numbers that do not fit together.
    """

    steps: int
    batch: int
    segments: int
    learning_rate: int = 640

    def __post_init__(self) -> None:
        limits = {"steps": 1 << 20, "batch": 4096, "segments": 256, "learning_rate": 1 << 15}
        for name, limit in limits.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"A recipe's {name} must be from 1 to {limit}.")
        if self.steps % self.segments:
            raise ValueError("A recipe's steps must be a multiple of its segments.")

    @property
    def segment_steps(self) -> int:
        """Steps of one segment."""
        return self.steps // self.segments

    def rate(self, step: int) -> int:
        """Learning rate of a step, at least 1: a cubic that is flat at both ends, close to half a cosine."""
        total, left = self.steps, self.steps - step
        return max(1, self.learning_rate * left * left * (3 * total - 2 * left) // total**3)


TESTNET_RECIPE = Recipe(steps=400, batch=32, segments=8, learning_rate=640)
TESTNET_MAX_MACS = 600_000
TESTNET_MAX_PARAMETERS = 100_000
"""With these caps a training of the digits takes 0.2 to 3 seconds on one idle core, 1.3 on average."""


def _exp_table() -> np.ndarray:
    """round(2^15 * exp(-i / 16)) for i < 255, 0 for i = 255. Decimal's exp is correctly rounded on every platform."""
    with localcontext() as context:
        context.prec = 30
        values = [int((Decimal(-index) / 16).exp() * (1 << 15) + Decimal("0.5")) for index in range(255)]
    return np.array([*values, 0], dtype=np.int64)


EXP_TABLE = _exp_table()
EXP_TABLE.setflags(write=False)
