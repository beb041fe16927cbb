"""When the keys of sealed test splits are shown: not before the chain has closed the commits, nor too late."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chain.artifact import artifact_id
from chain.types import Kind, Transaction, sign_transaction
from consensus import records
from consensus.datasets import cut_test, digits, encode_dataset, seal_split
from consensus.types import KeyBody, PublishBody
from ponas_node.split_keys import SplitKey
from ponas_node.unsealer import Unsealer
from tests.network.cluster import key, small_genesis, small_task
from tests.node.test_prover import Rig

KEY = bytes([9]) * 32


class Publisher(Rig):
    """A node whose second epoch has a sealed split; epochs of 40 slots, keys from offset 20 to 22."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, small_genesis(bootstrap=1, key_slots=3))
        public, (secret,) = cut_test(digits(), 1)
        data, sealed = encode_dataset(public), seal_split(secret, KEY)
        for artifact in (data, sealed):
            self.node.artifacts.put(artifact)
        self.split = SplitKey(artifact_id(sealed), Path("-"), KEY)
        self.spec = dataclasses.replace(
            small_task(), dataset=artifact_id(data), dataset_bytes=len(data), test_samples=len(secret),
            bounty_per_epoch=5_000_000_000,
        )  # fmt: skip
        self.unsealer = Unsealer(self.node, key(2), [self.split])

    async def publish(self) -> None:
        """Publish the task; ends at the slot before keys are taken, the tip at that slot."""
        body = PublishBody(self.spec, 1, (self.split.public,))
        await self.node.submit_transaction(sign_transaction(key(2), self.node.network, Kind.PUBLISH, 0, 50_000, body))
        for slot in (1, 36, 59):
            await self.mint(slot)
        assert records.current_epoch(self.node.chain.state).sealed == self.split.artifact

    async def shown(self, slot: int) -> list[Transaction]:
        """What is sent for a split, after a look at the chain at `slot`."""
        self.slot = slot
        await self.unsealer.step()
        return [transaction for transaction in self.node.mempool.best_first() if transaction.kind == Kind.KEY]


@pytest.fixture
async def publisher(tmp_path: Path) -> AsyncIterator[Publisher]:
    found = Publisher(tmp_path / "node")
    await found.publish()
    yield found
    await found.node.oracle.stop()
    found.node.store.close()


async def test_a_key_waits_for_a_block_after_the_commits(publisher: Publisher) -> None:
    assert not await publisher.shown(59)
    assert not await publisher.shown(60), "the next block could still be one of a slot with commits"
    await publisher.mint(60)
    [sent] = await publisher.shown(60)
    assert KeyBody.decode(sent.body) == KeyBody(1, KEY)
    assert await publisher.shown(61) == [sent], "it is sent once"
    await publisher.mint(61)
    assert records.current_epoch(publisher.node.chain.state).key == KEY
    assert not await publisher.shown(62)


async def test_in_the_second_half_of_its_time_a_key_waits_no_longer(publisher: Publisher) -> None:
    assert not await publisher.shown(60)
    [sent] = await publisher.shown(62)
    await publisher.mint(62)
    assert publisher.node.chain.transaction(sent.id) and records.current_epoch(publisher.node.chain.state).key == KEY


async def test_a_key_that_would_come_too_late_is_kept(publisher: Publisher) -> None:
    assert not await publisher.shown(63)
    await publisher.mint(63)
    assert records.current_epoch(publisher.node.chain.state).boundary
    assert not await publisher.shown(64)
