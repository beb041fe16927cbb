"""Establishing facts: artifacts are fetched first, answers are kept, blocks go before waiting transactions."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
from pathlib import Path

import pytest

from chain.artifact import artifact_id
from chain.store import Store
from consensus.datasets import cut_test, digits, encode_dataset, seal_split
from consensus.exact import decode_model, draw_samples, evaluate, train
from consensus.facts import FALSE, TRUE, BeaconFact, ChallengeFact, DatasetFact, KeyFact, fact_key, score_fact
from consensus.spaces import get_space
from consensus.tasks import input_shape
from consensus.types import EpochRecord
from ponas_node.artifacts import ArtifactStore
from ponas_node.job_inputs import recipe_of
from ponas_node.oracle import FOR_BLOCK, FOR_MEMPOOL, FOR_OWN_SEARCH, Oracle, Unavailable, _PriorityLock
from tests.network.cluster import small_task


@pytest.fixture
async def parts(tmp_path: Path):
    artifacts = ArtifactStore(tmp_path / "artifacts")
    asked: list[bytes] = []
    remote: dict[bytes, bytes] = {}

    async def fetch(id: bytes, size: int, hint: bytes | None) -> bool:
        asked.append(id)
        if id in remote:
            artifacts.put(remote[id])
        return id in remote

    with Store(tmp_path / "db", bytes(32)) as store:
        oracle = Oracle(store.namespace(b"facts"), artifacts, fetch, "cpu")
        yield oracle, remote, asked, store, artifacts, fetch
        await oracle.stop()


async def test_dataset_is_fetched_checked_once_and_remembered(parts) -> None:
    oracle, remote, asked, store, artifacts, fetch = parts
    fact = DatasetFact(small_task(), ())
    with pytest.raises(Unavailable):
        await oracle.establish(fact, FOR_BLOCK)
    assert oracle.get(fact_key(fact)) is None
    data = encode_dataset(digits())
    remote[artifact_id(data)] = data
    assert await asyncio.gather(*(oracle.establish(fact, FOR_BLOCK) for _ in range(3))) == [TRUE] * 3
    assert len(asked) == 2, "three askers share one check"
    again = Oracle(store.namespace(b"facts"), artifacts, fetch, "cpu")
    assert again.get(fact_key(fact)) == TRUE


async def test_a_challenge_needs_the_dataset_and_the_state(parts) -> None:
    oracle, remote, asked, _, _, _ = parts
    data, state = encode_dataset(digits()), b"what hashes to the leaf and is no state"
    remote[artifact_id(data)] = data
    leaf = hashlib.sha256(state).digest()
    fact = ChallengeFact(small_task(), bytes(15), bytes(32), 1, leaf, bytes(32), artifact_id(state), len(state))
    with pytest.raises(Unavailable):
        await oracle.establish(fact, FOR_BLOCK)
    assert oracle.get(fact_key(fact)) is None and artifact_id(state) in asked
    remote[artifact_id(state)] = state
    assert await oracle.establish(fact, FOR_BLOCK) == TRUE
    assert await oracle.establish(dataclasses.replace(fact, before=bytes(32)), FOR_BLOCK) == FALSE
    assert oracle.replayed == 2
    longer = dataclasses.replace(fact, state_bytes=len(state) + 1)
    with pytest.raises(Unavailable):
        await oracle.establish(longer, FOR_BLOCK)


async def test_datasets_that_do_not_fit_are_false(parts) -> None:
    oracle, remote, _, _, _, _ = parts
    data = encode_dataset(digits())
    remote[artifact_id(data)] = data
    rubbish = b"not a dataset at all"
    remote[artifact_id(rubbish)] = rubbish
    wrong_split = dataclasses.replace(small_task(), test_samples=7)
    wrong_shape = dataclasses.replace(small_task(), height=9)
    no_dataset = dataclasses.replace(small_task(), dataset=artifact_id(rubbish), dataset_bytes=len(rubbish))
    for spec in (wrong_split, wrong_shape, no_dataset):
        assert await oracle.establish(DatasetFact(spec, ()), FOR_BLOCK) == FALSE
    lying_size = dataclasses.replace(small_task(), dataset_bytes=len(data) + 1)
    with pytest.raises(Unavailable, match="stated"):
        await oracle.establish(DatasetFact(lying_size, ()), FOR_BLOCK)


async def test_a_model_is_judged_on_the_split_that_the_key_opens(parts) -> None:
    oracle, remote, asked, _, _, _ = parts
    public, (secret,) = cut_test(digits(), 1)
    data, key = encode_dataset(public), bytes([7]) * 32
    sealed = seal_split(secret, key)
    remote[artifact_id(data)] = data
    spec = dataclasses.replace(
        small_task(), dataset=artifact_id(data), dataset_bytes=len(data), test_samples=len(secret), eval_samples=100
    )
    with pytest.raises(Unavailable):
        await oracle.establish(DatasetFact(spec, (artifact_id(sealed),)), FOR_BLOCK)
    assert artifact_id(sealed) in asked, "a task is taken only where its sealed splits are here"
    remote[artifact_id(sealed)] = sealed
    assert await oracle.establish(DatasetFact(spec, (artifact_id(sealed),)), FOR_BLOCK) == TRUE
    assert await oracle.establish(KeyFact(spec, artifact_id(sealed), key), FOR_BLOCK) == TRUE
    assert await oracle.establish(KeyFact(spec, artifact_id(sealed), bytes(32)), FOR_BLOCK) == FALSE

    genotype = get_space(spec.space).sample(random.Random(1))
    graph = get_space(spec.space).decode(genotype, input_shape(spec))
    trained = train(graph, public, recipe_of(spec), bytes(32))
    remote[trained.leaves[-1]] = trained.model
    epoch = EpochRecord(
        number=0, task=bytes(32), seed=bytes(32), bounty=0, sealed=artifact_id(sealed), key=key, boundary=bytes(32),
        beacon=bytes([3]) * 32, commits=0, results=0, settled=False, void=False, settled_height=0, winners=(),
    )  # fmt: skip
    model = decode_model(trained.model, graph)
    picked = draw_samples(epoch.beacon, len(secret), spec.eval_samples)
    for shown, split in ((epoch, secret), (dataclasses.replace(epoch, key=b""), public.test)):
        fact = score_fact(spec, shown, genotype, trained.leaves[-1], len(trained.model))
        expected = evaluate(graph, model, split.samples[picked], split.labels[picked], "cpu")
        assert await oracle.establish(fact, FOR_BLOCK) == expected


async def test_a_false_beacon(parts) -> None:
    oracle = parts[0]
    assert await oracle.establish(BeaconFact(bytes(32), 256, 1000, bytes(200)), FOR_MEMPOOL) == FALSE


async def test_blocks_come_first() -> None:
    lock, order = _PriorityLock(), []

    async def turn(priority: int) -> None:
        async with lock.at(priority):
            order.append(priority)
            await asyncio.sleep(0)

    async with lock.at(FOR_BLOCK):
        waiting = [asyncio.create_task(turn(p)) for p in (FOR_OWN_SEARCH, FOR_MEMPOOL, FOR_BLOCK, FOR_MEMPOOL)]
        await asyncio.sleep(0)
        given_up = asyncio.create_task(turn(FOR_BLOCK))
        await asyncio.sleep(0)
        given_up.cancel()
    await asyncio.gather(*waiting)
    assert order == [FOR_BLOCK, FOR_MEMPOOL, FOR_MEMPOOL, FOR_OWN_SEARCH]
