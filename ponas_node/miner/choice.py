"""Which of a miner's pools to connect to: the first where possible, another where it does not answer."""

from __future__ import annotations

from collections.abc import Sequence

FAILURES = 3
"""Failed tries at one pool before the next one has its turn."""


class PoolChoice:
    """Pools in order of preference. No clock, no I/O."""

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise ValueError("a miner has at least one pool")
        self._urls = tuple(dict.fromkeys(urls))
        self._place = self._failures = 0

    @property
    def url(self) -> str:
        """The pool to connect to now."""
        return self._urls[self._place]

    @property
    def first(self) -> str:
        """The pool that is preferred."""
        return self._urls[0]

    @property
    def away(self) -> bool:
        """Whether the pool to connect to is not the first."""
        return self._place > 0

    def connected(self) -> None:
        """The pool took the miner in."""
        self._failures = 0

    def failed(self) -> bool:
        """A try failed. True where it is another pool's turn now."""
        self._failures += 1
        if self._failures < FAILURES or len(self._urls) == 1:
            return False
        self._place, self._failures = (self._place + 1) % len(self._urls), 0
        return True

    def back(self) -> None:
        """The first pool answers again."""
        self._place = self._failures = 0
