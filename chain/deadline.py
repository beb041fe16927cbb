"""A point in time by a clock that the caller chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """`clock` gives seconds; the deadline has passed once it shows `at`."""

    clock: Callable[[], float]
    at: float

    @property
    def has_passed(self) -> bool:
        """Whether the time is up."""
        return self.clock() >= self.at
