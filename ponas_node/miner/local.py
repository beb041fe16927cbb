"""Trains in child processes on this machine, out of the way of everything else on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consensus.types import TaskSpec
from ponas_node.miner.executor import TRAIN_SECONDS, WHOLE, Keeping, NoExecutor, Trained, TrainingFailed
from ponas_node.worker import Worker, WorkerDied, WorkerError

CHECK_SECONDS = 300.0
BYTES_PER_TRAINING = 4 << 30
"""Memory of a GPU that `auto` leaves to each of the trainings side by side on it."""
MOST_ON_A_GPU = 8
"""More trainings side by side than this are no faster: one thread launches the kernels of all."""


class LocalExecutor:
    """See `Executor`. On a CPU each training has a process of its own; on a GPU one process trains all side by side.

    `slots` None: as many as there are physical cores but one, or as the memory of the GPU allows. A process that dies
    with several trainings takes all of them with it, so each of them is tried once more in a process of its own.
    `side_by_side` makes it one process, or several, whatever the device.
    """

    def __init__(
        self,
        slots: int | None = 1,
        device: str = "cpu",
        nice: int = 10,
        timeout: float = TRAIN_SECONDS,
        side_by_side: bool | None = None,
    ) -> None:
        if slots is not None and slots < 1:
            raise ValueError("an executor has at least one slot")
        self.workers: list[Worker] = []
        self.spare = Worker("train-alone", nice=nice)
        self._slots = slots
        self._device = device
        self._nice = nice
        self._timeout = timeout
        self._side_by_side = side_by_side
        self._free = asyncio.Queue[Worker]()
        self._starting = asyncio.Lock()

    async def start(self) -> int:
        """See `Executor`."""
        async with self._starting:
            if not self.workers:
                device, slots = await self._plan()
                one = not device.startswith("cpu") if self._side_by_side is None else self._side_by_side
                count, together = (1, slots) if one else (slots, 1)
                self._device, self._slots = device, slots
                self.workers = [Worker(f"train-{i}", nice=self._nice, together=together) for i in range(count)]
                for worker in self.workers * together:
                    self._free.put_nowait(worker)
            return sum(worker.together for worker in self.workers)

    async def train(
        self,
        spec: TaskSpec,
        genotype: bytes,
        seed: bytes,
        artifacts: Path,
        on_progress: Callable[[int], None] | None = None,
        keeping: Keeping = WHOLE,
    ) -> Trained:
        """See `Executor`."""
        await self.start()
        arguments = spec.encode(), genotype, seed, str(artifacts), self._device, *keeping.arguments

        def progress(value: Any) -> None:
            keeping.progress(value, on_progress)

        worker = await self._free.get()
        try:
            try:
                answer = await worker.call("train", *arguments, timeout=self._timeout, on_progress=progress)
            except WorkerDied:
                if worker.together == 1:
                    raise
                answer = await self.spare.call("train", *arguments, timeout=self._timeout, on_progress=progress)
        except (WorkerDied, WorkerError) as error:
            raise TrainingFailed(f"{genotype.hex()}: {error}") from error
        finally:
            self._free.put_nowait(worker)
        return Trained.of(answer)

    async def stop(self) -> None:
        """See `Executor`."""
        await self.spare.stop()  # first, so that nothing is tried again there
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def _plan(self) -> tuple[str, int]:
        """The device to use and the number of trainings at a time."""
        if self._device == "cpu":
            return "cpu", self._slots or max(1, physical_cores() - 1)
        try:
            device, memory = await self.spare.call("examine", self._device, timeout=CHECK_SECONDS)
        except (WorkerDied, WorkerError) as error:
            raise NoExecutor(f"nothing can be trained on {self._device!r}: {error}") from error
        if self._slots is not None:
            return device, self._slots
        if device.startswith("cpu"):
            return device, max(1, physical_cores() - 1)
        return device, max(1, min(MOST_ON_A_GPU, memory // BYTES_PER_TRAINING))


def physical_cores() -> int:
    """Cores that this process may use, where two threads of one core count once."""
    usable = os.sched_getaffinity(0)
    cores = set()
    for cpu in usable:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return len(usable)
    return len(cores)
