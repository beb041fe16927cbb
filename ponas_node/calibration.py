"""Whether the delay of a network's beacon is right for this machine: not over too soon, and in time.

Source: protocol C6.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from consensus.parameters import ConsensusParameters

_CHOOSING_SLOTS = 2  # from the parent of the last block before the close to the block that makes it the boundary
_FIRST = 4_000  # iterations of the first try
_LONG_ENOUGH = 1.0  # seconds that a try must last to count
_TRIES = 3  # that count; the fastest is the machine's speed, the others were disturbed

Prove = Callable[[bytes, int, int], object]
Clock = Callable[[], float]


def iterations_per_second(prove: Prove, discriminant_bits: int, clock: Clock = time.perf_counter) -> float:
    """The speed of this machine: iterations of the delay function in a second, its proof included."""
    iterations = _FIRST
    while (speed := _speed(prove, 0, discriminant_bits, iterations, clock)) * _LONG_ENOUGH > iterations:
        iterations = max(2 * iterations, min(16 * iterations, int(1.2 * speed * _LONG_ENOUGH)))
    return max(speed, *(_speed(prove, number, discriminant_bits, iterations, clock) for number in range(1, _TRIES)))


def _speed(prove: Prove, number: int, bits: int, iterations: int, clock: Clock) -> float:
    started = clock()
    prove(number.to_bytes(32, "big"), bits, iterations)
    return iterations / max(clock() - started, 1e-6)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How long this machine takes for the beacon, how long it must take at least, and by when it must be there.

    `least_seconds`: who makes the last block before the commits close knows its parent for so long before the next
    block fixes it. Were the delay shorter, it could try blocks until the beacon suits it. `most_seconds`: from when a
    prover starts, in an epoch with a sealed test split, where it waits for the key, to the last slot whose block can
    carry the beacon.
    """

    iterations: int
    iterations_per_second: float
    seconds: float
    least_seconds: float
    most_seconds: float

    @property
    def long_enough(self) -> bool:
        """Whether a machine like this one cannot know the beacon while its boundary can still be chosen."""
        return self.seconds > self.least_seconds

    @property
    def in_time(self) -> bool:
        """Whether a machine like this one has the beacon before it is too late."""
        return self.seconds < self.most_seconds

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        low = int(self.least_seconds * self.iterations_per_second) + 1
        high = int(self.most_seconds * self.iterations_per_second)
        fitting = f"from {low} to {high} iterations would fit this machine"
        if not self.long_enough:
            return f"TOO SHORT: a machine like this one could choose the beacon; {fitting}."
        if not self.in_time:
            return f"TOO LONG: this machine cannot prove the beacon in time (a faster one may); {fitting}."
        return (
            f"FITS: only a machine more than {self.seconds / self.least_seconds:.1f} times as fast could choose the "
            f"beacon, and one {self.most_seconds / self.seconds:.1f} times as slow is still in time."
        )


def calibrate(parameters: ConsensusParameters, speed: float) -> Calibration:
    """The delay of the network with these parameters on a machine of this speed."""
    slot = parameters.slot_milliseconds / 1000
    first, last = parameters.boundary_slot(0, sealed=True) + 1, parameters.reveal_open + parameters.beacon_grace - 1
    return Calibration(
        parameters.vdf_iterations,
        speed,
        parameters.vdf_iterations / speed,
        _CHOOSING_SLOTS * slot,
        (last - first) * slot,
    )
