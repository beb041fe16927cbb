"""How fast members train: what a training costs, a running mean of a speed, and who fell behind the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

STEP_OVERHEAD = 10_000_000
"""MACs that would take as long as what a step costs beyond its MACs: launching some 20 layers, on a CPU core."""
LEAST_GAP = math.log(2)
"""Nobody is behind who does more than half of what is usual, however alike the others are."""
LEAST_HOLDERS = 3
"""A standard deviation of fewer performances says nothing."""
LEAST_SPEED = 0.1
"""A worker slower than this part of the mean gets no more time for that."""

MEASURED = 0.5
"""Weight that a mean of speeds needs before anything is concluded from it: reports over 0.7 times its memory."""
LONG_MEMORY = 20
"""A worker's usual speed is remembered for so many times the silence after which a lease is lost."""


def step_cost(macs: int, batch: int) -> int:
    """Cost of one training step, in MACs."""
    return macs * batch + STEP_OVERHEAD


@dataclass(slots=True)
class Rate:
    """Exponentially weighted mean of a speed, in MACs a second; `memory` is its time constant in seconds."""

    memory: float
    value: float = 0.0
    weight: float = 0.0

    def add(self, work: float, seconds: float) -> None:
        """`work` MACs were done in `seconds`."""
        kept = math.exp(-seconds / self.memory)
        self.value = kept * self.value + (1 - kept) * work / seconds
        self.weight = kept * self.weight + (1 - kept)

    def mean(self, idle: float = 0.0) -> float | None:
        """The speed, where the last `idle` seconds saw no work done; None before there is any measurement."""
        kept = math.exp(-idle / self.memory)
        weight = kept * self.weight + (1 - kept)
        return kept * self.value / weight if self.weight else None


class Speeds:
    """The usual speed of every worker, a pair of member and name, in MACs a second."""

    def __init__(self) -> None:
        self._rates: dict[tuple[bytes, bytes], Rate] = {}
        self._typical, self._changes = 0.0, 0

    def add(self, worker: tuple[bytes, bytes], work: float, seconds: float, silence: float) -> None:
        """A worker did `work` MACs in `seconds`."""
        self._changes += 1
        self._rates.setdefault(worker, Rate(LONG_MEMORY * silence)).add(work, seconds)

    def of(self, worker: tuple[bytes, bytes]) -> float | None:
        """A worker's usual speed; None where it has not been measured."""
        rate = self._rates.get(worker)
        mean = rate.mean() if rate is not None else None
        return None if mean is None else max(mean, LEAST_SPEED * self.typical())

    def typical(self) -> float:
        """Median over the workers, taken anew after a change for every 16 of them; 0 where nothing was measured."""
        if 16 * self._changes >= len(self._rates):
            self._typical = statistics.median([rate.mean() or 0.0 for rate in self._rates.values()] or [0.0])
            self._changes = 0
        return self._typical

    def forget(self, worker: tuple[bytes, bytes]) -> None:
        """A worker has not been seen for long."""
        self._changes += self._rates.pop(worker, None) is not None


def behind(performances: Mapping[int, float], z: float) -> list[int]:
    """Keys of those that fall more than `z` sigma_p below the mean. A performance is a speed relative to what is usual.

    Mean and sigma_p, the standard deviation, are taken over logarithms: half as fast is as far off as twice as fast.
    """
    if len(performances) < LEAST_HOLDERS:
        return []
    logs = {key: math.log(max(performance, 1e-6)) for key, performance in performances.items()}
    mean = sum(logs.values()) / len(logs)
    sigma = math.sqrt(sum((value - mean) ** 2 for value in logs.values()) / len(logs))
    gap = max(z * sigma, LEAST_GAP)
    return [key for key, value in logs.items() if value < mean - gap]
