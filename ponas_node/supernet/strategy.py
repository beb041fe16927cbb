"""A strategy that proposes what a supernet ranked best, and the task that has a worker process rank it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from consensus.spaces.nb201 import NB201V1
from consensus.types import TaskSpec
from ponas_node.worker import Worker, WorkerDied, WorkerError
from pool.search import Archive, Strategy, Surrogate
from pool.work import Work

log = logging.getLogger(__name__)
RANKINGS = 8
"""Tasks whose rankings are kept."""
TIMEOUT_SECONDS = 1800.0
RETRY_SECONDS = 30.0


class SupernetStrategy(Strategy):
    """The best of earlier epochs, then the best of the supernet's ranking, then what the surrogate makes of them.

    Without a ranking (another search space, or the supernet is not done yet) it is the surrogate.
    """

    name: ClassVar[str] = "supernet"

    def __init__(self, proposals: int = 64) -> None:
        self._proposals = proposals
        self._rankings: dict[TaskSpec, tuple[bytes, ...]] = {}
        self._after = Surrogate()

    def learn(self, spec: TaskSpec, ranking: Sequence[bytes]) -> None:
        """Take over a task's ranking of canonical genotypes, best first."""
        self._rankings.pop(spec, None)
        self._rankings[spec] = tuple(ranking[: self._proposals])
        while len(self._rankings) > RANKINGS:
            del self._rankings[next(iter(self._rankings))]

    def knows(self, spec: TaskSpec) -> bool:
        """Whether there is a ranking of the task."""
        return spec in self._rankings

    def propose(
        self, archive: Archive, taken: Collection[bytes], rng: random.Random, within: bytes = b""
    ) -> bytes | None:
        """See `Strategy`."""
        ranking = self._rankings.get(archive.domain.spec, ())
        for genotype in itertools.chain(archive.starting_points, ranking):
            known = genotype in archive or genotype in taken
            if not known and genotype.startswith(within) and archive.domain.cost(genotype) is not None:
                return genotype
        return self._after.propose(archive, taken, rng, within)


class SupernetFeed:
    """Has a child process train the supernet of the current work's task, once, and tells the strategy the ranking."""

    def __init__(self, strategy: SupernetStrategy, artifacts: Path, nice: int = 10) -> None:
        self._strategy = strategy
        self._artifacts = artifacts
        self._worker = Worker("supernet", nice=nice)
        self._spec: TaskSpec | None = None
        self._task: asyncio.Task[None] | None = None

    def set_work(self, work: Work | None) -> None:
        """What is searched now; may be called as often as one likes. Another task's supernet is dropped."""
        if work is None or work.spec.space != NB201V1.name or self._strategy.knows(work.spec):
            return
        if self._task is not None and not self._task.done():
            if work.spec == self._spec:
                return
            self._task.cancel()
        self._spec, self._task = work.spec, asyncio.create_task(self._run(work))

    async def stop(self) -> None:
        """End the child process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._worker.stop()

    async def _run(self, work: Work) -> None:
        arguments = work.spec.encode(), work.seed, str(self._artifacts)
        try:
            ranking = await self._worker.call("supernet", *arguments, timeout=TIMEOUT_SECONDS)
        except (WorkerDied, WorkerError) as error:
            log.warning("the supernet of %r failed, it is tried again: %s", work.spec.name, error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._strategy.learn(work.spec, ranking)
        log.info("the supernet of %r ranked %d architectures", work.spec.name, len(ranking))
