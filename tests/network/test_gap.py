"""A whole network that was switched off, for a moment or for thousands of epochs, goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain import accounts
from consensus import records
from tests.network.cluster import Cluster, cluster, key

OWNERS = {"first": key(1), "second": key(2), "solo": key(5)}


async def start_all(group: Cluster) -> None:
    await group.start("first", OWNERS["first"])
    await group.start("second", OWNERS["second"], prover_delay=2)
    await group.start("solo", OWNERS["solo"], solo=True, prover_delay=-1)


@pytest.mark.long
async def test_a_network_that_was_switched_off_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, bootstrap=2, rescue_slots=20) as group:
        await start_all(group)
        await group.until("a seat is won", lambda: group.winners(group.nodes["first"]))
        p = group.genesis.consensus

        # Every node at once, for a moment: nothing is lost.
        before = {name: node.chain.tip for name, node in group.nodes.items()}
        supply = {name: accounts.supply(node.chain.state) for name, node in group.nodes.items()}
        for name in list(group.nodes):
            await group.stop(name)
        await start_all(group)
        for name, node in group.nodes.items():
            assert node.chain.tip.id == before[name].id or node.chain.has(before[name].id)
            assert accounts.supply(node.chain.state) >= supply[name]
            assert not node.branches.is_joining()
        highest = max(tip.height for tip in before.values())
        await group.until("blocks follow", lambda: min(n.chain.height for n in group.nodes.values()) > highest + 2)
        group.agree()

        # And for 5,000 epochs: the epochs between are skipped, and the next competition gives seats again.
        tips = {name: node.chain.tip for name, node in group.nodes.items()}
        for name in list(group.nodes):
            await group.stop(name)
        gap = 5000 * p.epoch_slots * p.slot_milliseconds / 1000
        group.ahead += gap
        await start_all(group)
        first = group.nodes["first"]
        assert all(node.branches.is_joining() for node in group.nodes.values())
        resumed = p.epoch_of(first.slot())
        tip = tips["first"]
        await group.until(
            "the first block after the gap", lambda: first.chain.tip.slot > tip.slot + 4000 * p.epoch_slots
        )
        await group.until("seats are won after the gap", lambda: group.winners(first, resumed))
        assert records.current_epoch(first.chain.state).number >= resumed
        skipped = [records.epoch(first.chain.state, n) for n in range(resumed - 100, resumed)]
        assert skipped == [None] * 100
        for name, node in group.nodes.items():
            await group.until(f"{name} is level", lambda node=node: node.chain.height >= first.chain.height - 1)
            assert node.chain.id_at(tips[name].height) == tips[name].id or tips[name].height > tip.height
        group.agree()
