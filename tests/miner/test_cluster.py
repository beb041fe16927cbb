"""Trainings on a local Ray cluster: the results are those of this machine, and a worker that is killed costs none."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.cluster import RayExecutor
from ponas_node.miner.executor import Checkpoint, Keeping, NoExecutor, TrainingFailed
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.miner.test_real_training import ENCODED, A, tiny_work
from tests.miner.test_side_by_side import SLOW, WORK, genotypes
from tests.pool.kit import make_settings
from tests.pool.rig import BACKOFF, Site, running, until
from tests.pool.test_kill import free_port

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SMALL = ["--node-ip-address=127.0.0.1", "--num-cpus=3", "--object-store-memory=80000000"]
QUIET = ["--include-dashboard=false", "--disable-usage-stats"]


@pytest.fixture(scope="module")
def address():
    """A cluster on this machine, as a user would start it."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray keeps a token in the home directory
        port = free_port()
        command = [*RAY, "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", *SMALL, *QUIET]
        cluster = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        yield f"127.0.0.1:{port}"
        cluster.terminate()
        cluster.wait(60)


@pytest.fixture
async def executor(address, tmp_path):
    ArtifactStore(tmp_path).put(ENCODED)
    made = RayExecutor(address)
    async with asyncio.timeout(120):
        while True:
            try:
                assert await made.start() == 3
                break
            except NoExecutor:
                await asyncio.sleep(1)
    yield made
    await made.stop()


def trainers() -> list[int]:
    """Processes that run a task of ours now: Ray names its workers after their task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_train"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.long
async def test_results_and_progress_are_those_of_this_machine(executor, tmp_path):
    alone, steps = LocalExecutor(), []
    genotype = genotypes(1)[0]
    found = await executor.train(WORK.spec, genotype, WORK.seed, tmp_path, steps.append)
    assert found == await alone.train(WORK.spec, genotype, WORK.seed, tmp_path)
    assert steps == list(range(2, WORK.spec.steps + 1, 2))
    kept: list[Checkpoint] = []
    assert found == await executor.train(
        WORK.spec, genotype, WORK.seed, tmp_path, None, Keeping(None, 0.0, kept.append)
    )
    assert [checkpoint.leaves for checkpoint in kept] == [found.leaves[: i + 2] for i in range(WORK.spec.segments - 1)]
    assert found == await executor.train(WORK.spec, genotype, WORK.seed, tmp_path, None, Keeping(kept[-1]))
    with pytest.raises(TrainingFailed, match="Gene 0"):
        await executor.train(WORK.spec, b"\xff" * 15, WORK.seed, tmp_path)
    await alone.stop()


@pytest.mark.long
async def test_a_killed_worker_costs_no_training(executor, tmp_path):
    spec, alone, chosen = dataclasses.replace(WORK.spec, steps=600), LocalExecutor(), genotypes(3)
    begun = asyncio.Event()
    tasks = [
        asyncio.create_task(executor.train(spec, genotype, WORK.seed, tmp_path, lambda step: begun.set()))
        for genotype in chosen
    ]
    await begun.wait()
    os.kill(trainers()[0], signal.SIGKILL)
    found = await asyncio.gather(*tasks)
    assert executor.lost >= 1
    assert found == [await alone.train(spec, genotype, WORK.seed, tmp_path) for genotype in chosen]
    await alone.stop()


@pytest.mark.long
async def test_a_training_can_be_cancelled_and_its_place_is_free_again(executor, tmp_path):
    for _ in range(2):
        endless = [
            asyncio.create_task(executor.train(SLOW, genotype, WORK.seed, tmp_path)) for genotype in genotypes(3)
        ]
        await until(lambda: len(trainers()) == 3, 120)
        for task in endless:
            task.cancel()
        outcomes = await asyncio.gather(*endless, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await executor.train(WORK.spec, genotypes(1)[0], WORK.seed, tmp_path)
    assert executor.lost == 0


@pytest.mark.long
async def test_a_member_mines_with_a_cluster_and_loses_a_worker(executor, tmp_path):
    print("seed 5")

    async def evaluate(work, genotype, model):
        return scores[genotype]

    scores = {}
    train = executor.train

    async def remembered(spec, genotype, *arguments):
        trained = await train(spec, genotype, *arguments)
        scores[genotype] = trained.validation_correct
        return trained

    executor.train = remembered
    site = Site(Pool(MemoryStorage(), make_settings(), random.Random(5)), tmp_path / "site", evaluate)
    site.artifacts.put(ENCODED)
    await site.start(tiny_work())
    member = PoolMember(site.url, A, tmp_path / "member", executor, backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.accepted >= 2 and trainers(), 120)
        os.kill(trainers()[0], signal.SIGKILL)
        await until(lambda: executor.lost >= 1, 60)
        wanted = member.state.accepted + 4
        await until(lambda: member.state.accepted >= wanted, 120)
    assert not member.state.rejected
    assert sorted(member.state.slots) == [0, 1, 2]
    await site.stop()


async def test_without_ray_or_without_a_cluster_there_is_a_clear_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NoExecutor, match=r"pip install 'ponas-node\[ray\]'"):
        await RayExecutor().start()
