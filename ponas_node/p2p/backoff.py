"""Exponential backoff with jitter. Randomness comes in as an argument."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first` to `most` seconds, each drawn from the upper half of its range."""

    def __init__(self, first: float, most: float, source: random.Random) -> None:
        self._first = first
        self._most = most
        self._source = source
        self._next = first

    def wait(self) -> float:
        """Seconds to wait this time."""
        seconds = self._next * self._source.uniform(0.5, 1.0)
        self._next = min(self._most, self._next * 2)
        return seconds

    def reset(self) -> None:
        """Start anew: the last attempt went well."""
        self._next = self._first

    def exhaust(self) -> None:
        """Wait the longest from now on: trying soon cannot help."""
        self._next = self._most
