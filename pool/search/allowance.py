"""How much time a strategy may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """Seconds that may be spent: `share` of the time that passes, saved up to `most`. It begins full."""

    share: float
    most: float
    at: float
    left: float

    def may(self, now: float) -> bool:
        """Whether something is left at `now`, in seconds of a clock that does not go back."""
        self.left = min(self.most, self.left + self.share * max(0.0, now - self.at))
        self.at = now
        return self.left > 0

    def spend(self, began: float, now: float) -> None:
        """Something took from `began` to `now`; the last spending may exceed what is left."""
        self.left -= now - began
