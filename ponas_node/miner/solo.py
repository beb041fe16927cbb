"""Search alone: the same strategies as a pool's, an archive of one's own that survives a kill."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from chain.encoding import U32, Address, Record, Size
from consensus.types import Genotype, Leaves
from ponas_node.miner.executor import Executor, TrainingFailed
from ponas_node.miner.state import MinerState
from pool.search import DEFAULT_STRATEGY, STRATEGIES, Archive, Strategy
from pool.storage import Storage, Writes
from pool.subspace import Domain
from pool.work import Candidate, Work

STARTING_POINTS = 16
FAILURE_SECONDS = 2.0
_RESULT, _HERITAGE, _CURRENT = b"r", b"h", b"c"


@dataclass(frozen=True, slots=True)
class Found(Record):
    """A `Candidate` in storage; the model's artifact id is the last leaf."""

    genotype: Genotype
    leaves: Leaves
    model_bytes: U32
    validation_correct: U32
    validation_total: U32
    finder: Address

    @property
    def candidate(self) -> Candidate:
        """The candidate it stands for."""
        return Candidate(
            self.genotype, self.leaves, self.leaves[-1], self.model_bytes,
            self.validation_correct, self.validation_total, self.finder,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heritage(Record):
    """Starting points for a task's next epoch."""

    genotypes: Annotated[tuple[Genotype, ...], Size(0, 256)]


class SoloSearch:
    """Trains what `strategy` proposes. Results are durable before they count; models go to `store_artifact` first."""

    def __init__(
        self,
        executor: Executor,
        storage: Storage,
        store_artifact: Callable[[bytes], bytes],
        artifacts: Path,
        finder: bytes,
        rng: random.Random,
        strategy: Strategy | None = None,
        state: MinerState | None = None,
    ) -> None:
        self.state = state or MinerState()
        self._executor = executor
        self._storage = storage
        self._store_artifact = store_artifact
        self._artifacts = artifacts
        self._finder = finder
        self._rng = rng
        self._strategy = strategy or STRATEGIES[DEFAULT_STRATEGY]
        self._work: Work | None = None
        self._archive: Archive | None = None
        self._training: set[bytes] = set()

    def candidates(self, limit: int) -> list[Candidate]:
        """The best results of the last work given to `run` or `prepare`, best first."""
        return self._archive.best(limit) if self._archive is not None else []

    def prepare(self, work: Work) -> None:
        """Load or begin the archive of `work`; results of other work leave the storage, but for starting points."""
        if self._work is not None and self._work.id == work.id:
            self._work = work
            return
        archive = Archive(Domain(work.spec), self._inherit(work))
        for _, value in self._storage.iterate(_RESULT + work.id):
            archive.add(Found.decode(value).candidate)
        self._work, self._archive = work, archive
        self.state.epoch, self.state.task = work.epoch, work.spec.name
        self.state.say(f"epoch {work.epoch}: task {work.spec.name!r}, {len(archive)} results so far")

    async def run(self, work: Work, on_found: Callable[[Candidate, bytes], None] | None = None) -> None:
        """Search until cancelled. `on_found` gets every result and its model's bytes. Raises NoExecutor."""
        self.prepare(work)
        slots = await self._executor.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for slot in range(slots):
                    tasks.create_task(self._search(slot, work, on_found))
        finally:
            self._training.clear()

    async def _search(self, slot: int, work: Work, on_found: Callable[[Candidate, bytes], None] | None) -> None:
        if self._archive is None:
            raise RuntimeError("prepare was not called")
        archive, spec = self._archive, work.spec
        while True:
            genotype = self._strategy.propose(archive, self._training, self._rng)
            if genotype is None:
                self.state.training(slot)
                await asyncio.sleep(FAILURE_SECONDS)
                continue
            self._training.add(genotype)
            self.state.training(slot, archive.domain.space.text(genotype), genotype, spec.steps)
            try:
                trained = await self._executor.train(
                    spec, genotype, work.seed, self._artifacts, lambda step: self.state.stepped(slot, step)
                )
            except TrainingFailed as error:
                # It stays in `_training`, so that it is not proposed again in this epoch.
                self.state.say(f"training failed: {error}", warn=True)
                await asyncio.sleep(FAILURE_SECONDS)
                continue
            model = await asyncio.to_thread(self._store_artifact, trained.model)
            found = Found(
                genotype, trained.leaves, len(trained.model),
                trained.validation_correct, trained.validation_total, self._finder,
            )  # fmt: skip
            self._storage.put(_RESULT + work.id + genotype, found.encode())
            archive.add(found.candidate)
            self._training.discard(genotype)
            text = archive.domain.space.text(genotype)
            self.state.finished(trained.validation_correct, trained.validation_total, text)
            self.state.say(f"{text}: {trained.validation_correct} correct")
            if on_found is not None and model == found.candidate.model:
                on_found(found.candidate, trained.model)

    def _inherit(self, work: Work) -> tuple[bytes, ...]:
        """Starting points of the task. Where another work is stored, it ends here: its best become starting points."""
        current = self._storage.get(_CURRENT) or b""
        if current != work.id + work.task:
            changes: Writes = [(key, None) for key, _ in self._storage.iterate(_RESULT)]
            if current:
                changes.append(self._ending(current[:32], current[32:]))
            self._storage.write([*changes, (_CURRENT, work.id + work.task)])
        return self._heritage(work.task)

    def _ending(self, work_id: bytes, task: bytes) -> tuple[bytes, bytes]:
        results = [Found.decode(value) for _, value in self._storage.iterate(_RESULT + work_id)]
        best = [result.genotype for result in sorted(results, key=lambda result: -result.validation_correct)]
        known = set(best)
        inherited = [genotype for genotype in self._heritage(task) if genotype not in known]
        return _HERITAGE + task, Heritage(tuple([*best, *inherited][:STARTING_POINTS])).encode()

    def _heritage(self, task: bytes) -> tuple[bytes, ...]:
        stored = self._storage.get(_HERITAGE + task)
        return Heritage.decode(stored).genotypes if stored is not None else ()
