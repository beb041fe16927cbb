from __future__ import annotations

import asyncio
import contextlib

import pytest

from pool.batches import BATCH, Batches
from tests.pool.kit import make_work
from tests.pool.rig import until

WORK, NEXT = make_work(1), make_work(2)


class Evaluator:
    """Answers a model's first byte; breaks where a model is b"bad"."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def __call__(self, work, models):
        self.calls.append((work, len(models)))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if any(model == b"bad" for _, model in models):
            raise RuntimeError("the worker died")
        return [model[0] for _, model in models]


@contextlib.asynccontextmanager
async def serving(evaluator):
    batches = Batches(evaluator)
    task = asyncio.create_task(batches.run())
    yield batches
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_goes_in_one_call_by_work_and_size(monkeypatch):
    monkeypatch.setattr("pool.batches.BATCH_BYTES", 300)
    evaluator = Evaluator()
    async with serving(evaluator) as batches, asyncio.timeout(10):
        asked = [(WORK, bytes([i % 256])) for i in range(BATCH + 3)] + [(NEXT, bytes([i]) * 120) for i in range(4)]
        scores = await asyncio.gather(*(batches.evaluate(work, b"g", model) for work, model in asked))
        assert scores == [model[0] for _, model in asked]
        assert evaluator.calls == [(WORK, BATCH), (WORK, 3), (NEXT, 2), (NEXT, 2)]


async def test_a_model_that_breaks_the_evaluation_harms_no_other():
    evaluator = Evaluator()
    async with serving(evaluator) as batches, asyncio.timeout(10):
        models = (b"\x01", b"bad", b"\x03")
        scores = await asyncio.gather(*(batches.evaluate(WORK, b"g", m) for m in models), return_exceptions=True)
        assert (scores[0], scores[2]) == (1, 3)
        assert isinstance(scores[1], RuntimeError)
        with pytest.raises(RuntimeError, match="died"):
            await batches.evaluate(WORK, b"g", b"bad")
        assert await batches.evaluate(WORK, b"g", b"\x05") == 5


async def test_an_evaluation_for_nobody_ends():
    evaluator = Evaluator()
    evaluator.gate.clear()
    async with serving(evaluator) as batches, asyncio.timeout(10):
        waiting = [asyncio.create_task(batches.evaluate(WORK, b"g", bytes([i]))) for i in range(3)]
        await until(lambda: evaluator.calls)
        for task in waiting:
            task.cancel()
        await until(lambda: evaluator.cancelled)
        evaluator.gate.set()
        assert await batches.evaluate(WORK, b"g", b"\x05") == 5
