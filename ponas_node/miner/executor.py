"""Trains architectures in child processes, one per slot, out of the way of everything else on the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consensus.types import TaskSpec
from ponas_node.worker import Worker, WorkerDied, WorkerError

TRAIN_SECONDS = 4 * 3600.0


class TrainingFailed(Exception):
    """The architecture could not be trained here; the message says why."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gave. The last leaf is the artifact id of `model`."""

    leaves: tuple[bytes, ...]
    model: bytes
    validation_correct: int
    validation_total: int


class TrainingExecutor:
    """`slots` trainings at a time, on `device`, at low priority."""

    def __init__(self, slots: int = 1, device: str = "cpu", nice: int = 10, timeout: float = TRAIN_SECONDS) -> None:
        if slots < 1:
            raise ValueError("an executor has at least one slot")
        self.slots = slots
        self._device = device
        self._timeout = timeout
        self._workers = [Worker(f"train-{number}", nice=nice) for number in range(slots)]
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in self._workers:
            self._free.put_nowait(worker)

    async def train(
        self,
        spec: TaskSpec,
        genotype: bytes,
        seed: bytes,
        artifacts: Path,
        on_progress: Callable[[int], None] | None = None,
    ) -> Trained:
        """Train one architecture; `artifacts` holds the dataset, `on_progress` hears the steps done.

        Raises TrainingFailed. Cancelling kills the child process.
        """
        worker = await self._free.get()
        try:
            answer = await worker.call(
                "train", spec.encode(), genotype, seed, str(artifacts), self._device,
                timeout=self._timeout, on_progress=on_progress,
            )  # fmt: skip
        except (WorkerDied, WorkerError) as error:
            raise TrainingFailed(f"{genotype.hex()}: {error}") from error
        finally:
            self._free.put_nowait(worker)
        return Trained(tuple(answer["leaves"]), answer["model"], answer["correct"], answer["total"])

    async def stop(self) -> None:
        """End the child processes."""
        for worker in self._workers:
            await worker.stop()
