"""Several trainings in one child process: results, progress, cancelling, failures and crashes stay each one's own."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from consensus.spaces import InvalidGenotype, get_space
from consensus.tasks import input_shape
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.executor import TrainingFailed
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.miner.test_real_training import ENCODED, A, tiny_work
from tests.pool.kit import make_settings, make_work
from tests.pool.rig import BACKOFF, Site, running, until

pytestmark = pytest.mark.timeout(120)
WORK = tiny_work()
SLOW = make_work(dataset=WORK.spec.dataset, dataset_bytes=len(ENCODED), steps=1 << 19, segments=2).spec


def genotypes(count: int) -> list[bytes]:
    """Small architectures, all different."""
    rng, space, shape = random.Random(7), get_space(WORK.spec.space), input_shape(WORK.spec)
    found: list[bytes] = []
    while len(found) < count:
        genotype = space.sample(rng)
        try:
            small = space.decode(genotype, shape).cost.macs < 100_000
        except InvalidGenotype:
            continue
        if small and genotype not in found:
            found.append(genotype)
    return found


@pytest.fixture
async def executor(tmp_path):
    ArtifactStore(tmp_path).put(ENCODED)
    made = LocalExecutor(slots=4, side_by_side=True)  # as on a GPU
    await made.start()
    yield made
    await made.stop()


async def begun(executor: LocalExecutor, folder, genotype: bytes) -> asyncio.Task:
    """A training without end, once there is a child for it."""
    task = asyncio.create_task(executor.train(SLOW, genotype, b"seed", folder))
    await until(lambda: task.done() or executor.workers[0]._child is not None)
    return task


async def test_each_result_is_that_of_the_training_alone(executor, tmp_path):
    chosen, alone = genotypes(5), LocalExecutor()
    steps: list[list[int]] = [[] for _ in chosen]
    found = await asyncio.gather(
        *[executor.train(WORK.spec, g, WORK.seed, tmp_path, s.append) for g, s in zip(chosen, steps, strict=True)]
    )
    assert found == [await alone.train(WORK.spec, genotype, WORK.seed, tmp_path) for genotype in chosen]
    assert all(heard == list(range(2, WORK.spec.steps + 1, 2)) for heard in steps)
    assert executor.spare._child is None
    await alone.stop()


async def test_trainings_take_turns_and_one_can_be_cancelled_or_fail(executor, tmp_path):
    endless = [await begun(executor, tmp_path, genotype) for genotype in genotypes(2)]
    await executor.train(WORK.spec, genotypes(3)[2], WORK.seed, tmp_path)
    child = executor.workers[0]._child
    endless[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless[0]
    with pytest.raises(TrainingFailed):
        await executor.train(WORK.spec, bytes(15), WORK.seed, tmp_path / "nowhere")
    await executor.train(WORK.spec, genotypes(3)[2], WORK.seed, tmp_path)
    assert executor.workers[0]._child is child and len(child.calls) == 1 and not endless[1].done()
    endless[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless[1]
    assert executor.workers[0]._child is None, "the last one's end is the child's"


async def test_after_a_crash_each_is_tried_once_more_by_itself(executor, tmp_path):
    tasks = [asyncio.create_task(executor.train(WORK.spec, genotype, WORK.seed, tmp_path)) for genotype in genotypes(3)]
    await until(lambda: executor.workers[0]._child is not None and len(executor.workers[0]._child.calls) == 3)
    os.kill(executor.workers[0]._child.process.pid, signal.SIGKILL)
    found = await asyncio.gather(*tasks)
    assert executor.spare._child is not None and len({trained.model for trained in found}) == 3
    tasks = [await begun(executor, tmp_path, genotype) for genotype in genotypes(3)]
    await executor.stop()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, TrainingFailed) for outcome in outcomes)
    assert executor.workers[0]._child is executor.spare._child is None


async def test_a_member_with_four_slots_in_one_process(tmp_path):
    print("seed 5")

    async def evaluate(work, genotype, model):
        return 200

    site = Site(Pool(MemoryStorage(), make_settings(), random.Random(5)), tmp_path / "site", evaluate)
    site.artifacts.put(ENCODED)
    await site.start(tiny_work())
    member = PoolMember(site.url, A, tmp_path / "member", LocalExecutor(slots=4, side_by_side=True), backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.trained >= 8, 90)
        assert sorted(member.state.slots) == [0, 1, 2, 3]
    await site.stop()
