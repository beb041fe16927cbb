"""Somebody publishes a task with data that no other node has: the network fetches it, searches, and pays the bounty."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from chain import accounts
from chain.types import Kind, sign_transaction
from consensus import records
from consensus.datasets import digits, encode_dataset, split_by_hash
from consensus.types import PublishBody
from tests.network.cluster import cluster, key, small_task

BOUNTY = 7_000_000_001


async def test_published_task_is_searched_and_paid(tmp_path: Path) -> None:
    whole = digits()
    splits = (whole.train, whole.validation, whole.test)
    samples = np.concatenate([split.samples for split in splits])[::2]
    labels = np.concatenate([split.labels for split in splits])[::2]
    dataset = split_by_hash("half-of-the-digits", samples, labels, 10)
    data = encode_dataset(dataset)
    async with cluster(tmp_path, bootstrap=1) as group:
        first = await group.start("first", key(1))
        solo = await group.start("solo", key(5), solo=True, prover_delay=-1)
        spec = dataclasses.replace(
            small_task(),
            name="half of the digits",
            dataset=first.artifacts.put(data),
            dataset_bytes=len(data),
            test_samples=len(dataset.test.labels),
            bounty_per_epoch=BOUNTY,
        )
        assert not solo.artifacts.has(spec.dataset)
        body = PublishBody(spec, 1)
        owner = key(2)
        before = accounts.account(first.chain.state, owner.address).balance
        transaction = sign_transaction(owner, first.network, Kind.PUBLISH, 0, 100_000, body)
        await first.submit_transaction(transaction)
        await group.until("it is published", lambda: first.chain.transaction(transaction.id))
        assert accounts.account(first.chain.state, owner.address).balance == before - BOUNTY - 100_000

        def winners() -> list[records.ResultRecord]:
            won = group.winners(first)
            return [w for w in won if records.task(first.chain.state, w.task).spec.name == spec.name]

        await group.until("the task has winners", winners)
        assert solo.artifacts.read(spec.dataset) == data
        assert sum(result.reward for result in winners()) == BOUNTY
        assert all(result.owner == key(5).public for result in winners())
        await group.until("the bounty is out of escrow", lambda: not records.ids(first.chain.state, records.FUNDED) or
                          records.task(first.chain.state, winners()[0].task).epochs_left == 0)  # fmt: skip
        group.agree()
