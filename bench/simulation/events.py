"""Virtual time: what happens, and when, in one order that a seed determines."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import struct
from collections.abc import Callable
from typing import Any

Action = Callable[..., None]


class Events:
    """A queue of actions in order of time, then of when they were planned. `now` in seconds.

    `trace` is a hash over the time and order of every event so far and over all that was noted: equal traces are equal
    histories.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self._queue: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._trace = hashlib.sha256()
        self._pack = struct.Struct("<dQ").pack

    @property
    def trace(self) -> str:
        """Hash of the history, in hexadecimal digits."""
        return self._trace.hexdigest()

    def at(self, time: float, action: Action, *arguments: Any) -> None:
        """Call `action` at `time`, or now where that is past."""
        heapq.heappush(self._queue, (max(time, self.now), next(self._order), action, arguments))

    def after(self, seconds: float, action: Action, *arguments: Any) -> None:
        """Call `action` in so many seconds."""
        self.at(self.now + seconds, action, *arguments)

    def note(self, what: bytes) -> None:
        """Make `what` part of the trace."""
        self._trace.update(what)

    def run(self, until: float) -> None:
        """Let everything happen that is planned up to `until`."""
        queue, pack, update, pop = self._queue, self._pack, self._trace.update, heapq.heappop
        while queue and queue[0][0] <= until:
            self.now, order, action, arguments = pop(queue)
            self.count += 1
            update(pack(self.now, order))
            action(*arguments)
        self.now = until
