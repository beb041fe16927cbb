"""Somebody publishes a task with data that no other node has: the network fetches it, searches, and pays the bounty.

Its first competition is judged by a sealed test split whose key the publisher's node shows; the key of the second split
is lost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from chain import accounts
from chain.artifact import artifact_id
from chain.types import Kind, sign_transaction
from consensus import records
from consensus.datasets import cut_test, digits, encode_dataset, seal_split, split_by_hash
from consensus.facts import fact_key, score_fact
from consensus.types import PublishBody
from ponas_node.split_keys import SplitKey
from tests.network.cluster import cluster, key, small_task

BOUNTY = 7_000_000_001


async def test_published_task_is_searched_and_paid(tmp_path: Path) -> None:
    whole = digits()
    splits = (whole.train, whole.validation, whole.test)
    samples = np.concatenate([split.samples for split in splits])[::2]
    labels = np.concatenate([split.labels for split in splits])[::2]
    dataset, secret = cut_test(split_by_hash("half-of-the-digits", samples, labels, 10), 2)
    data = encode_dataset(dataset)
    sealed = [seal_split(part, bytes([50 + i]) * 32) for i, part in enumerate(secret)]
    keys = [SplitKey(artifact_id(part), Path("-"), bytes([50 + i]) * 32) for i, part in enumerate(sealed)]
    async with cluster(tmp_path, bootstrap=1) as group:
        first = await group.start("first", key(1))
        owner = key(2)
        publisher = await group.start("publisher", owner, prover_delay=-1, splits=tuple(keys[:1]))
        solo = await group.start("solo", key(5), solo=True, prover_delay=-1)
        for part in sealed:
            publisher.artifacts.put(part)
        spec = dataclasses.replace(
            small_task(),
            name="half of the digits",
            dataset=publisher.artifacts.put(data),
            dataset_bytes=len(data),
            test_samples=len(dataset.test.labels),
            bounty_per_epoch=BOUNTY,
        )
        assert not solo.artifacts.has(spec.dataset)
        body = PublishBody(spec, 2, tuple(split.public for split in keys))
        deposit = publisher.genesis.consensus.split_deposit
        before = accounts.account(first.chain.state, owner.address).balance
        transaction = sign_transaction(owner, publisher.network, Kind.PUBLISH, 0, 100_000, body)
        await publisher.submit_transaction(transaction)
        await group.until("it is published", lambda: first.chain.transaction(transaction.id))
        balance = accounts.account(first.chain.state, owner.address).balance
        assert balance == before - 2 * BOUNTY - 2 * deposit - 100_000

        def competitions() -> list[records.EpochRecord]:
            last = records.current_epoch(first.chain.state).number
            held = [records.need_epoch(first.chain.state, n) for n in range(last)]
            return [epoch for epoch in held if epoch.winners and epoch.bounty == BOUNTY]

        await group.until("the task has been searched twice", lambda: len(competitions()) >= 2)
        assert solo.artifacts.read(spec.dataset) == data
        shown, lost = competitions()
        assert (shown.sealed, shown.key) == (keys[0].artifact, keys[0].key)
        assert (lost.sealed, lost.key) == (keys[1].artifact, b""), "nobody showed it, and nothing waited for it"
        for epoch in (shown, lost):
            won = [records.result(first.chain.state, id) for id in epoch.winners]
            assert sum(result.reward for result in won) == BOUNTY
            assert all(result.owner == key(5).public for result in won)
            for node in (first, publisher, solo):  # each has judged it by the same samples
                for result in won:
                    fact = score_fact(spec, epoch, result.genotype, result.model, result.model_bytes)
                    assert node.oracle.get(fact_key(fact)) == result.correct
        assert records.task(first.chain.state, shown.task).epochs_left == 0
        assert records.task(first.chain.state, shown.task).splits == ()
        group.agree()
