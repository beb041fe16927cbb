"""Establishing facts: artifacts are fetched first, answers are kept, blocks go before waiting transactions."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from pathlib import Path

import pytest

from chain.artifact import artifact_id
from chain.store import Store
from consensus.datasets import digits, encode_dataset
from consensus.facts import FALSE, TRUE, BeaconFact, ChallengeFact, DatasetFact, fact_key
from ponas_node.artifacts import ArtifactStore
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
    fact = DatasetFact(small_task())
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
        assert await oracle.establish(DatasetFact(spec), FOR_BLOCK) == FALSE
    lying_size = dataclasses.replace(small_task(), dataset_bytes=len(data) + 1)
    with pytest.raises(Unavailable, match="stated"):
        await oracle.establish(DatasetFact(lying_size), FOR_BLOCK)


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
