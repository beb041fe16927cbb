"""Members that really train, in worker processes, for a pool that really measures; and a solo search that survives."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time

import pytest

from chain.artifact import artifact_id
from consensus.datasets import digits, encode_dataset
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.executor import Checkpoint, Keeping, TrainingFailed
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from ponas_node.miner.solo import SoloSearch
from ponas_node.worker import Worker
from pool.pool import Pool
from pool.storage import MemoryStorage
from pool.work import Work, validation_samples
from tests.pool.kit import key, make_settings, make_spec, make_work
from tests.pool.rig import BACKOFF, FakeExecutor, Site, running, score_of, until

A, B = key(1), key(2)
ENCODED = encode_dataset(digits())


def tiny_work(epoch: int = 1, **changes: object) -> Work:
    spec = make_spec(
        dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED), max_parameters=8_000, max_macs=300_000,
        steps=40, batch=16, segments=2, **changes,
    )  # fmt: skip
    closes = float(int(time.time()) + 3600)
    return Work(epoch, bytes(32), spec, bytes([epoch]) * 32, closes, validation_samples(ENCODED))


@pytest.mark.timeout(180)
async def test_two_members_train_and_the_pool_measures(tmp_path):
    judge = Worker("judge")

    async def evaluate(work, genotype, model):
        folder = str(tmp_path / "site")
        answer = await judge.call("validate", work.spec.encode(), [(genotype, model)], folder, "cpu", timeout=60)
        return answer[0]

    print("seed 5")
    site = Site(Pool(MemoryStorage(), make_settings(), random.Random(5)), tmp_path / "site", evaluate)
    site.artifacts.put(ENCODED)
    await site.start(tiny_work())
    members = [
        PoolMember(site.url, signer, tmp_path / str(i), LocalExecutor(), backoff=BACKOFF)
        for i, signer in enumerate((A, B))
    ]
    async with running(*members):
        await until(lambda: all(member.state.accepted >= 2 for member in members), 150)
    best = site.pool.candidates(1)[0]
    print(site.pool.summary())
    assert best.validation_correct > site.pool.work.baseline_correct
    assert not any(site.pool.member(signer.address).rejections for signer in (A, B))
    assert {line.address for line in site.pool.payouts_for(best, 8)} == {A.address, B.address}
    forged = bytearray(site.artifacts.read(best.model))
    forged[-1] = (forged[-1] + 64) % 128
    assert await evaluate(site.pool.work, best.genotype, bytes(forged[:-2])) == -1
    await site.stop()
    await judge.stop()


async def test_executor_reports_failures_and_can_be_cancelled(tmp_path):
    executor, work = LocalExecutor(), tiny_work()
    with pytest.raises(TrainingFailed, match=r"FileNotFoundError|No such file"):
        await executor.train(work.spec, bytes(15), work.seed, tmp_path)
    store = ArtifactStore(tmp_path)
    store.put(ENCODED)
    steps: list[int] = []
    slow = make_work(dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED), steps=1 << 19, segments=2).spec
    task = asyncio.create_task(executor.train(slow, bytes(15), work.seed, tmp_path))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    trained = await executor.train(work.spec, bytes(15), work.seed, tmp_path, steps.append)
    again = await executor.train(work.spec, bytes(15), work.seed, tmp_path)
    assert trained == again
    assert trained.leaves[-1] == artifact_id(trained.model)
    assert len(trained.leaves) == work.spec.segments + 2
    assert steps == sorted(steps)
    assert steps
    await executor.stop()


def solo(storage, store, seed=3, executor=None):
    return SoloSearch(executor or FakeExecutor(slots=2), storage, store.put, store.root, A.address, random.Random(seed))


async def search(alone, work, results):
    task = asyncio.create_task(alone.run(work))
    await until(lambda: task.done() or alone.state.trained >= results)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_solo_search_continues_after_a_restart_and_inherits(tmp_path):
    store, storage = ArtifactStore(tmp_path), MemoryStorage()
    store.put(ENCODED)
    first = solo(storage, store)
    await search(first, tiny_work(), 10)
    known = first.candidates(100)
    assert len(known) >= 10
    assert [found.validation_correct for found in known] == sorted((score_of(f.genotype) for f in known), reverse=True)
    assert all(store.has(found.model) and found.finder == A.address for found in known)
    executor = FakeExecutor()
    second = solo(storage.copy(), store, 4, executor)
    second.prepare(tiny_work())
    assert second.candidates(100) == known
    await search(second, tiny_work(), 5)
    assert not {found.genotype for found in known} & set(executor.trained)
    best = [found.genotype for found in second.candidates(16)]
    executor.trained.clear()
    second.prepare(tiny_work(2))
    assert second.candidates(5) == []
    third = solo(storage, store, 5, executor)
    third.prepare(tiny_work(2))
    await search(second, tiny_work(2), second.state.trained + 3)
    assert executor.trained[:3] == best[:3]


async def test_solo_goes_on_after_a_training_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("ponas_node.miner.solo.FAILURE_SECONDS", 0.01)
    store = ArtifactStore(tmp_path)
    store.put(ENCODED)
    executor = FakeExecutor(fail=True)
    alone = solo(MemoryStorage(), store, executor=executor)
    task = asyncio.create_task(alone.run(tiny_work()))
    await until(lambda: len(alone.state.lines) >= 4)
    executor.fail = False
    await until(lambda: alone.candidates(1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_training_goes_on_from_any_checkpoint_to_the_same_bits(tmp_path):
    ArtifactStore(tmp_path).put(ENCODED)
    work = tiny_work()
    spec = dataclasses.replace(work.spec, segments=4)
    genotype = bytes(15)
    executor, kept = LocalExecutor(), []
    whole = await executor.train(spec, genotype, work.seed, tmp_path, None, Keeping(None, 0.0, kept.append))
    assert [len(checkpoint.leaves) for checkpoint in kept] == [2, 3, 4]
    assert all(checkpoint.leaves == whole.leaves[: len(checkpoint.leaves)] for checkpoint in kept)
    for checkpoint in kept:
        steps, more = [], []
        keeping = Keeping(checkpoint, 0.0, more.append)
        assert await executor.train(spec, genotype, work.seed, tmp_path, steps.append, keeping) == whole
        assert min(steps) > (len(checkpoint.leaves) - 1) * spec.steps // spec.segments
        assert more == kept[len(checkpoint.leaves) - 1 :]
    last = kept[-1]
    for leaves, state, says in (
        (last.leaves[:-1], last.state, "not that of the last leaf"), (last.leaves, last.state[:-1], "bytes"),
        (last.leaves, b"x" + last.state[1:], "header"), ((bytes(32),) * 4, last.state, "not that of the last leaf"),
    ):  # fmt: skip
        with pytest.raises(TrainingFailed, match=says):
            await executor.train(spec, genotype, work.seed, tmp_path, None, Keeping(Checkpoint(leaves, state)))
    await executor.stop()
