"""Several provers of the beacon in one network of real nodes: one beacon an epoch, and either prover is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.types import Kind
from consensus import records
from consensus.types import BeaconBody
from ponas_node.node import Node
from tests.network.cluster import cluster, key


def beacons(node: Node) -> dict[int, int]:
    """How many beacons the blocks of a node's chain carry, by epoch."""
    found: dict[int, int] = {}
    for height in range(1, node.chain.height + 1):
        block = node.chain.block_at(height)
        assert block is not None
        for transaction in block.transactions:
            if transaction.kind == Kind.BEACON:
                epoch = BeaconBody.decode(transaction.body).epoch
                found[epoch] = found.get(epoch, 0) + 1
    return found


@pytest.mark.long
async def test_two_provers_make_one_beacon_an_epoch_and_either_is_enough(tmp_path: Path) -> None:
    async with cluster(tmp_path, bootstrap=2, slot_milliseconds=250, epoch_slots=32, commit_close=8, reveal_open=14,
                       reveal_close=24, beacon_grace=6) as group:  # fmt: skip
        first = await group.start("first", key(1))
        second = await group.start("second", key(2))
        await group.until("two epochs have a beacon", lambda: len(beacons(first)) >= 2)
        await group.stop("first")
        last = max(beacons(second))
        await group.until("the other prover goes on alone", lambda: max(beacons(second)) >= last + 2)
        assert set(beacons(second).values()) == {1}
        epoch = records.epoch(second.chain.state, max(beacons(second)))
        assert epoch is not None and epoch.beacon
        assert second.prover.proven >= 1
        again = await group.start("first", key(1))
        await group.until("both are level", lambda: again.chain.height >= second.chain.height - 1)
        group.agree()
