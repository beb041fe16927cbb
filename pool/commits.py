"""Changes of a pool in groups: those that wait are made together, stored with one sync, and only then answered.

Urgent ones go first, for up to half of a group's time, and that is short: a worker without a lease stands still, one
that waits for the answer to its share trains on. So a pool that gets more shares than it can take still gives leases at
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from pool.errors import Unavailable
from pool.pool import Pool

log = logging.getLogger(__name__)
T = TypeVar("T")
SECONDS = 0.012
"""How long a group takes further changes: between two groups everything else has its turn."""
PASSES = 2
"""Passes of the event loop between two groups: one reads what came in, one makes changes of it for the next group."""
_Waiting = deque[tuple[Callable[[], Any], asyncio.Future[Any]]]


class GroupCommit:
    """See the module."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._urgent: _Waiting = deque()
        self._waiting: _Waiting = deque()

    async def run(self, change: Callable[[], T], urgent: bool = False) -> T:
        """Make a change; returns when it is durable. Raises what it raises, or Unavailable where it is not stored.

        Unavailable leaves open whether the change will be stored: it is, with the next group that can be.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._urgent and not self._waiting:
            self._flush_after(PASSES)
        (self._urgent if urgent else self._waiting).append((change, future))
        return await future

    def _flush_after(self, passes: int) -> None:
        loop = asyncio.get_running_loop()
        if passes:
            loop.call_soon(self._flush_after, passes - 1)
        else:
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        outcomes: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
        loop = asyncio.get_running_loop()
        lanes = (self._urgent, loop.time() + SECONDS / 2), (self._waiting, loop.time() + SECONDS)
        try:
            with self._pool.group():
                for waiting, ends in lanes:
                    while waiting:
                        change, future = waiting.popleft()
                        if future.cancelled():
                            continue
                        try:
                            outcomes.append((future, change(), None))
                        except Exception as error:  # the caller's own
                            outcomes.append((future, None, error))
                        if loop.time() >= ends:
                            break
        except Exception as error:  # the storage raises whatever it raises
            log.exception("the pool could not store its changes")
            failure = Unavailable(f"the pool could not store the change now: {error}")
            outcomes = [(future, None, failure) for future, _, _ in outcomes]
        if self._urgent or self._waiting:
            self._flush_after(PASSES)
        for future, value, refusal in outcomes:
            if future.cancelled():
                continue
            if refusal is None:
                future.set_result(value)
            else:
                future.set_exception(refusal)
