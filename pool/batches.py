"""Uploaded models wait here, and those of one work are evaluated in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pool.work import Work

BATCH = 256
BATCH_BYTES = 64 << 20
Evaluate = Callable[[Work, list[tuple[bytes, bytes]]], Awaitable[list[int]]]
"""(work, pairs of genotype and model bytes) to the numbers of validation samples predicted; negative: no model."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A model and who waits for its score."""

    work: Work
    genotype: bytes
    model: bytes
    answer: asyncio.Future[int]


class Batches:
    """One call of `evaluate` at a time, with all that waits, up to `BATCH` models of `BATCH_BYTES` together."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._queue: deque[Waiting] = deque()
        self._filled = asyncio.Event()

    async def evaluate(self, work: Work, genotype: bytes, model: bytes) -> int:
        """The model's score. Raises what its evaluation raised."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(work, genotype, model, answer))
        self._filled.set()
        return await answer

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._filled.wait()
            batch = self._next()
            if not batch:
                self._filled.clear()
            elif not await self._attempt(batch):
                for one in batch:  # so that a model that breaks the evaluation harms no other
                    await self._attempt([one])

    def _next(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._queue and len(batch) < BATCH:
            head = self._queue[0]
            size += len(head.model)
            if batch and (head.work != batch[0].work or size > BATCH_BYTES):
                break
            self._queue.popleft()
            if not head.answer.done():  # nobody waits where the member has gone
                batch.append(head)
        return batch

    async def _attempt(self, batch: list[Waiting]) -> bool:
        """Evaluate and answer; False where several together failed. It ends early where nobody waits any more."""
        answers = [one.answer for one in batch]
        evaluation = asyncio.ensure_future(self._evaluate(batch[0].work, [(one.genotype, one.model) for one in batch]))
        waited_for: set[asyncio.Future[Any]] = {evaluation, asyncio.gather(*answers, return_exceptions=True)}
        try:
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        finally:
            evaluation.cancel()
        if all(answer.done() for answer in answers):
            return True
        error = evaluation.exception()
        if error is not None and len(batch) > 1:
            return False
        for place, answer in enumerate(answers):
            if answer.done():
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(evaluation.result()[place])
        return True
