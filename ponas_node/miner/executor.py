"""What trains architectures for a miner: processes on this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from consensus.types import TaskSpec

TRAIN_SECONDS = 4 * 3600.0
STATE_SECONDS = 300.0
"""A training keeps its state with the pool at the end of a segment, at most so often."""
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

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Trained:
        """What the job answers."""
        return cls(tuple(answer["leaves"]), answer["model"], answer["correct"], answer["total"])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training at the end of a segment: its leaves so far, and the canonical bytes of the state of the last one."""

    leaves: tuple[bytes, ...]
    state: bytes


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a training begins, and what is kept of it on the way.

    `take` gets a checkpoint at the end of a segment, at most every `seconds`; None keeps nothing.
    """

    start: Checkpoint | None = None
    seconds: float | None = None
    take: Callable[[Checkpoint], None] | None = None

    @property
    def arguments(self) -> tuple[tuple[list[bytes], bytes] | None, float | None]:
        """As the job takes them."""
        start = None if self.start is None else (list(self.start.leaves), self.start.state)
        return start, self.seconds if self.take is not None else None

    def progress(self, value: Any, on_progress: Callable[[int], None] | None) -> None:
        """Hand on what the job says on its way."""
        if isinstance(value, int):
            if on_progress is not None:
                on_progress(value)
        elif self.take is not None:
            self.take(Checkpoint(tuple(value[0]), value[1]))


WHOLE = Keeping()
"""From the beginning, and nothing is kept."""


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
        keeping: Keeping = WHOLE,
    ) -> Trained:
        """Train one architecture; `artifacts` holds the dataset, `on_progress` hears the steps done.

        Raises TrainingFailed, also where the state to begin with is not one. Cancelling ends the training.
        """
        ...

    async def stop(self) -> None:
        """End all trainings and let go of what they ran on; for good."""
        ...
