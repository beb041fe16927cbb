"""Trains architectures in a child process, out of the way of everything else on the machine."""

from __future__ import annotations

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
    """Up to `slots` trainings side by side on `device`, in a child process at low priority.

    A child that dies takes all its trainings with it, so each of them is tried once more in a child of its own.
    """

    def __init__(self, slots: int = 1, device: str = "cpu", nice: int = 10, timeout: float = TRAIN_SECONDS) -> None:
        if slots < 1:
            raise ValueError("an executor has at least one slot")
        self.slots = slots
        self._device = device
        self._timeout = timeout
        self._worker = Worker("train", nice=nice, together=slots)
        self._spare = Worker("train-alone", nice=nice)

    async def train(
        self,
        spec: TaskSpec,
        genotype: bytes,
        seed: bytes,
        artifacts: Path,
        on_progress: Callable[[int], None] | None = None,
    ) -> Trained:
        """Train one architecture; `artifacts` holds the dataset, `on_progress` hears the steps done.

        Raises TrainingFailed. Cancelling ends the training, and the child process if it has no other.
        """
        arguments = spec.encode(), genotype, seed, str(artifacts), self._device
        try:
            try:
                answer = await self._worker.call("train", *arguments, timeout=self._timeout, on_progress=on_progress)
            except WorkerDied:
                if self.slots == 1:
                    raise
                answer = await self._spare.call("train", *arguments, timeout=self._timeout, on_progress=on_progress)
        except (WorkerDied, WorkerError) as error:
            raise TrainingFailed(f"{genotype.hex()}: {error}") from error
        return Trained(tuple(answer["leaves"]), answer["model"], answer["correct"], answer["total"])

    async def stop(self) -> None:
        """End the child processes."""
        await self._spare.stop()  # first, so that nothing is tried again there
        await self._worker.stop()
