"""Trains on a Ray cluster: every training is a task, and one whose process or machine is lost begins anew elsewhere.

Ray trusts everything in a cluster, so this is for machines of one's own. `ponas-node` must be installed on all of them,
in the same version.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from consensus.types import TaskSpec
from ponas_node.miner.executor import (
    MOST_SLOTS,
    TRAIN_SECONDS,
    WHOLE,
    Keeping,
    NoExecutor,
    Trained,
    TrainingFailed,
)

TRIES = 4
PER_GPU = 4
"""Trainings that share a GPU; each has a process of its own there."""


class RayExecutor:
    """See `Executor`. `address` is host:port, or "auto" for a cluster that this machine is a part of.

    `slots` None: as many as the cluster has CPUs, or on GPUs `PER_GPU` for each. `device` auto: GPUs where it has any.
    """

    def __init__(
        self, address: str = "auto", slots: int | None = None, device: str = "cpu", timeout: float = TRAIN_SECONDS
    ) -> None:
        self.lost = 0  # trainings that began anew
        self._address = address
        self._slots = slots
        self._device = device
        self._timeout = timeout
        self._ray: Any = None
        self._task: Any = None
        self._dataset: tuple[bytes, Any] = (b"", None)

    async def start(self) -> int:
        """See `Executor`."""
        if self._ray is None:
            ray = _import()
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level="warning")
            except Exception as error:  # Ray raises many kinds
                raise NoExecutor(
                    f"there is no Ray cluster at {self._address!r} ({error}): start one with `ray start --head`, "
                    "and give its address with --address"
                ) from error
            self._ray = ray
            self._plan(ray.cluster_resources())
        return self._slots or 1

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
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(TRIES):
                    arguments = spec.encode(), genotype, seed, self._put(spec, artifacts), self._device
                    running = self._task.remote(*arguments, *keeping.arguments)
                    answer = await self._follow(running, lambda value: keeping.progress(value, on_progress))
                    if answer is not None:
                        return Trained.of(answer)
                    self.lost += 1
        except TimeoutError as error:
            raise TrainingFailed(f"{genotype.hex()}: took over {self._timeout:.0f} s and was stopped") from error
        raise TrainingFailed(f"{genotype.hex()}: lost {TRIES} times with the process that trained it")

    async def stop(self) -> None:
        """See `Executor`."""
        if self._ray is not None:
            await asyncio.to_thread(self._ray.shutdown)

    async def _follow(self, running: Any, on_progress: Callable[[Any], None]) -> dict[str, Any] | None:
        """The result of a task; None where its process or machine was lost."""
        errors = self._ray.exceptions
        try:
            async for reference in running:
                value = await reference
                if isinstance(value, dict):
                    return value
                on_progress(value)
        except errors.RayTaskError as error:
            raise TrainingFailed(str(error.cause or error)) from error
        except errors.RayError:
            return None
        except asyncio.CancelledError:
            # By force, with the process: an interrupted import would leave one that can train nothing any more.
            if self._ray.is_initialized():
                self._ray.cancel(running, force=True)
            raise
        return None

    def _plan(self, resources: dict[str, float]) -> None:
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if self._device == "auto":
            self._device = "cuda" if gpus else "cpu"
        on_gpu = not self._device.startswith("cpu")
        if not (gpus if on_gpu else cpus):
            raise NoExecutor(f"the Ray cluster at {self._address!r} has no {'GPU' if on_gpu else 'CPU'} to train on")
        self._slots = min(MOST_SLOTS, self._slots or (gpus * PER_GPU if on_gpu else cpus))
        share = {"num_cpus": 0, "num_gpus": 1 / PER_GPU} if on_gpu else {"num_cpus": 1}
        # Ray's own retries would repeat the progress: a task that is lost is given out anew here.
        self._task = self._ray.remote(num_returns="streaming", max_retries=0, **share)(_train)

    def _put(self, spec: TaskSpec, artifacts: Path) -> Any:
        """The dataset in the cluster's object store."""
        if self._dataset[0] != spec.dataset:
            self._dataset = spec.dataset, self._ray.put((artifacts / spec.dataset.hex()).read_bytes())
        return self._dataset[1]


def _train(
    spec_bytes: bytes,
    genotype: bytes,
    seed: bytes,
    dataset: bytes,
    device: str,
    start: tuple[list[bytes], bytes] | None,
    keep_seconds: float | None,
) -> Iterator[Any]:
    """The task: progress as of the job `train`, then the result."""
    from consensus.datasets import decode_dataset
    from ponas_node import jobs

    spec = TaskSpec.decode(spec_bytes)
    run = jobs.train_on(spec, genotype, seed, decode_dataset(dataset, spec.dataset_bytes), device, start, keep_seconds)
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            yield end.value
            return
        if step is not None:
            yield step


def _import() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise NoExecutor("--executor ray needs Ray: pip install 'ponas-node[ray]'") from error
