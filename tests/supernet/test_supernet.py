"""The supernet's parts: paths and mixtures agree, a search is a function of its seed, and the strategy follows it."""

import asyncio
import functools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.artifact import artifact_id
from consensus.datasets import digits, encode_dataset
from consensus.spaces import InputShape, get_space
from consensus.spaces.cells import live_edges
from ponas_node import jobs
from ponas_node.artifacts import ArtifactStore
from ponas_node.supernet import search as search_module
from ponas_node.supernet import strategy as strategy_module
from ponas_node.supernet.network import Supernet, mixture, path
from ponas_node.supernet.search import Budget, admitted, search, usual_budget
from ponas_node.supernet.strategy import SupernetFeed, SupernetStrategy
from ponas_node.worker import WorkerDied, WorkerError
from pool.search import Archive
from pool.subspace import Domain
from pool.work import Candidate
from tests.miner.test_real_training import ENCODED
from tests.pool.kit import make_spec, make_work
from tests.pool.rig import until

SPACE = get_space("nb201-v1")
CELLS = st.integers(0, SPACE.distinct_count() - 1).map(lambda index: SPACE.at(b"", index))
cells_of = functools.cache(admitted)
TINY = Budget(steps=6, batch=8, candidates=5, samples=32, mixture_every=2)
SPEC = make_spec(space="nb201-v1", dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED))


def finished(run):
    steps = []
    while True:
        try:
            steps.append(next(run))
        except StopIteration as end:
            return steps, end.value


@settings(deadline=None, print_blob=True, max_examples=30)
@given(CELLS, st.integers(0, 1000), st.sampled_from([(8, 8, 1), (7, 7, 1), (5, 6, 3), (2, 3, 1)]))
def test_a_cell_is_the_mixture_that_is_all_its_operations(cell, seed, shape):
    torch.manual_seed(seed)
    net = Supernet(InputShape(*shape, 4)).double()
    samples = torch.randn(6, shape[2], shape[0], shape[1], dtype=torch.float64)
    weights = torch.nn.functional.one_hot(torch.tensor(list(cell)), 5).double()
    with torch.inference_mode():
        alone, mixed = net(samples, path(cell)), net(samples, mixture(weights))
    assert alone.shape == (6, 4)
    assert torch.allclose(alone, mixed, atol=1e-9)
    assert len(path(cell)) == len(live_edges(cell))


def test_a_search_is_a_function_of_its_seed_and_leaves_torch_alone():
    data, cells = digits(), cells_of(SPEC)
    assert len(cells) == 4929
    torch.manual_seed(1)
    before = torch.get_rng_state()
    steps, one = finished(search(data, cells, 3, TINY))
    assert torch.equal(torch.get_rng_state(), before)
    assert finished(search(data, cells, 3, TINY)) == (steps, one)
    assert finished(search(data, cells, 4, TINY))[1] != one
    assert steps == [1, 2, 3, 4, 5, 6, *[6] * 5]
    assert [found.loss for found in one] == sorted(found.loss for found in one)
    assert len({found.cell for found in one}) == 5 and all(np.isfinite(found.loss) for found in one)
    short = finished(search(data, cells, 3, Budget(seconds=0.0)))[0]
    assert len(short) == 2, "a budget of no time ends after a step and an evaluation"


def test_shared_weights_learn():
    data, cells = digits(), cells_of(SPEC)
    losses = [
        np.median([found.loss for found in finished(search(data, cells, 0, Budget(steps=n, candidates=20)))[1]])
        for n in (1, 100)
    ]
    print(losses)
    assert losses[1] < 0.85 * losses[0]


def test_the_job_answers_what_the_task_admits(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "usual_budget", lambda spec: TINY)
    ArtifactStore(tmp_path).put(ENCODED)
    spec = make_spec(space="nb201-v1", dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED), max_parameters=30_000)
    ranking = finished(jobs.JOBS["supernet"](spec.encode(), bytes(32), str(tmp_path)))[1]
    domain = Domain(spec)
    assert len(ranking) == 5 and all(domain.cost(cell) is not None for cell in ranking)
    for bad in (make_spec(space="stages-v1"), make_spec(space="nb201-v1", max_parameters=1)):
        with pytest.raises(ValueError, match=r"supernet of|admits no"):
            admitted(bad)
    large = usual_budget(make_spec(height=1024, width=1024))
    assert (large.batch, large.samples) == (4, 16)


def proposals(strategy, archive, count, within=b""):
    rng, found = random.Random(1), []
    for _ in range(count):
        found.append(strategy.propose(archive, found, rng, within))
    return found


def test_the_strategy_proposes_the_ranking_then_what_the_surrogate_does():
    rng, strategy = random.Random(2), SupernetStrategy(proposals=6)
    cells = rng.sample(cells_of(SPEC), 12)
    old = cells_of(SPEC)[0]
    archive = Archive(Domain(SPEC), (old,))
    assert None not in proposals(strategy, archive, 3), "without a ranking it is the surrogate"
    strategy.learn(SPEC, cells)
    assert strategy.knows(SPEC) and not strategy.knows(make_spec())
    assert proposals(strategy, archive, 7) == [old, *cells[:6]]
    archive.add(Candidate(cells[0], (), b"", 0, 1, 400, b""))
    assert proposals(strategy, archive, 2) == [old, cells[1]]
    more = proposals(strategy, archive, 12)
    assert len(set(more)) == 12 and None not in more
    prefix = cells[3][:1]
    inside = proposals(strategy, archive, 3, prefix)
    assert all(cell.startswith(prefix) for cell in inside)
    for number in range(20):
        strategy.learn(make_spec(steps=number + 1), cells)
    assert not strategy.knows(SPEC), "old rankings go"


class FakeWorker:
    def __init__(self, *answers):
        self.answers, self.calls, self.stopped = list(answers), [], False

    async def call(self, *arguments, timeout):
        self.calls.append(arguments)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer[0])
        return answer[1]

    async def stop(self):
        self.stopped = True


async def test_the_feed_ranks_a_task_once_and_tries_again_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(strategy_module, "RETRY_SECONDS", 0.01)
    cells = cells_of(SPEC)[:3]
    worker = FakeWorker(WorkerDied("gone"), WorkerError("OSError", "no data set"), (0.02, cells))
    monkeypatch.setattr(strategy_module, "Worker", lambda *_, **__: worker)
    strategy = SupernetStrategy()
    feed = SupernetFeed(strategy, tmp_path)
    work = make_work(space="nb201-v1")
    feed.set_work(None)
    feed.set_work(make_work())
    assert not worker.calls

    def told():
        feed.set_work(work)
        return strategy.knows(work.spec)

    await until(told)
    feed.set_work(make_work(2, space="nb201-v1"))
    await asyncio.sleep(0.02)
    assert len(worker.calls) == 3, "the next epoch of the task has the ranking already"
    other = make_work(space="nb201-v1", steps=2)
    worker.answers += [(60, cells), (0, cells)]
    feed.set_work(other)
    await asyncio.sleep(0.01)
    feed.set_work(make_work(space="nb201-v1", steps=4))
    await until(lambda: strategy.knows(make_spec(space="nb201-v1", steps=4)))
    assert not strategy.knows(other.spec), "work that is over is dropped"
    await feed.stop()
    assert worker.stopped


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_real_child_process_ranks(tmp_path):
    ArtifactStore(tmp_path).put(encode_dataset(digits()))
    strategy = SupernetStrategy()
    feed, work = (
        SupernetFeed(strategy, tmp_path),
        make_work(space="nb201-v1", dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED)),
    )
    feed.set_work(work)
    await until(lambda: strategy.knows(work.spec), 500)
    found = proposals(strategy, Archive(Domain(work.spec)), 64)
    assert len(set(found)) == 64
    await feed.stop()
