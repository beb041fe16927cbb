"""What trains architectures for a miner: processes on this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consensus.types import TaskSpec

TRAIN_SECONDS = 4 * 3600.0
MOST_SLOTS = 256
"""Trainings at a time of one miner: the protocol numbers its slots with a byte."""


class TrainingFailed(Exception):
    """The architecture could not be trained here; the message says why."""


class NoExecutor(Exception):
    """Nothing can be trained with this device or cluster; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gave. The last leaf is the artifact id of `model`."""

    leaves: tuple[bytes, ...]
    model: bytes
    validation_correct: int
    validation_total: int


class Executor(Protocol):
    """Trains several architectures at a time."""

    async def start(self) -> int:
        """Get ready; answers how many trainings run at a time. Raises NoExecutor. Starting again changes nothing."""
        ...

    async def train(
        self,
        spec: TaskSpec,
        genotype: bytes,
        seed: bytes,
        artifacts: Path,
        on_progress: Callable[[int], None] | None = None,
    ) -> Trained:
        """Train one architecture; `artifacts` holds the dataset, `on_progress` hears the steps done.

        Raises TrainingFailed. Cancelling ends the training.
        """
        ...

    async def stop(self) -> None:
        """End all trainings and let go of what they ran on; for good."""
        ...
