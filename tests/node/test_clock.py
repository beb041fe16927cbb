"""Clocks: blocks of slots that have not begun, and a clock that differs from the peers'."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from chain.errors import Ignore, Reject
from ponas_node.clock import EARLY, EarlyBlocks, compare
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from tests.chain.builder import Builder
from tests.chain.rules import TestRules
from tests.chain.test_chain import branch
from tests.network.cluster import small_genesis
from tests.network.test_attacks import Lone
from tests.p2p.fakes import until

PEERS = [bytes([n]) * 32 for n in range(20)]


def test_the_median_decides_and_a_slot_is_tolerated() -> None:
    assert compare([], 2.0).warning is None
    status = compare([1.9, -0.1, 1.99], 2.0)
    assert (status.offset_seconds, status.peers, status.warning) == (1.9, 3, None)
    assert compare([-0.5, 90.0], 2.0).offset_seconds == -0.5
    behind, ahead = compare([2.5, 3.0, 1e15], 2.0), compare([-7200.0], 2.0)
    assert behind.offset_seconds == 3.0 and "3.0 s behind the median of 3 peers" in str(behind.warning)
    assert "7200.0 s ahead of" in str(ahead.warning) and "NTP" in str(ahead.warning)


def test_early_blocks_are_bounded_and_come_out_in_order() -> None:
    builder = Builder(TestRules())
    blocks = branch(builder, builder.genesis, range(1, 80))
    early = EarlyBlocks()
    assert not early.put(blocks[70], PEERS[0], 5)
    shuffled = blocks[10:18]
    seed = random.randrange(2**32)
    print("seed", seed)
    random.Random(seed).shuffle(shuffled)
    assert all(early.put(block, PEERS[0], 5) for block in shuffled)
    assert early.put(blocks[10], PEERS[0], 5) and len(early) == 8
    assert not early.put(blocks[19], PEERS[0], 5)  # one peer's part is full, another's is not
    assert early.put(blocks[19], PEERS[1], 5)
    assert early.due(9) == []
    assert [block for block, _ in early.due(13)] == blocks[10 : 13 + EARLY]
    assert early.due(1000)[-1] == (blocks[19], PEERS[1]) and len(early) == 0


async def test_a_block_of_a_later_slot_waits_is_judged_in_its_slot_and_costs_nothing(tmp_path: Path) -> None:
    lone = Lone(tmp_path / "node")
    node, p = lone.node, lone.parameters
    try:
        lone.time = p.time_of(9)
        early = lone.draft()
        lone.time = p.time_of(5)
        with pytest.raises(Ignore) as caught:
            await node.receive_block(early, PEERS[0])
        assert caught.value.code == "early" and not isinstance(caught.value, Reject)
        for slot, height in ((6, 0), (7, 0), (8, 1)):  # a slot of tolerance
            lone.time = p.time_of(slot)
            await node.take_due()
            assert node.chain.height == height
        assert node.chain.tip.id == early.id and len(node.early) == 0
    finally:
        await node.oracle.stop()
        node.store.close()


async def test_a_clock_that_is_off_is_said_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    genesis = small_genesis()
    slot = genesis.consensus.slot_milliseconds / 1000
    clocks = {"one": 0.0, "two": 0.1, "slow": -2 * slot}

    def clock(name: str):
        return lambda: genesis.consensus.time_of(5) + clocks[name]

    nodes: dict[str, Node] = {}
    try:
        for name in clocks:
            peers = tuple(f"127.0.0.1:{node.p2p.port}" for node in nodes.values())
            config = NodeConfig(tmp_path / name, peers=peers, label=name, prover_delay=-1)
            nodes[name] = Node(config, genesis, clock=clock(name))
            await nodes[name].start()
        caplog.set_level(logging.INFO)
        await until(lambda: "slow: this machine's clock is" in caplog.text, 20)
        status = nodes["slow"].clock_status()
        assert status.peers == 2 and status.offset_seconds == pytest.approx(2 * slot, abs=0.2)
        assert "behind the median of 2 peers" in caplog.text
        assert nodes["one"].clock_status().warning is None and nodes["two"].clock_status().warning is None
        assert nodes["slow"].now() == clock("slow")()
        clocks["slow"] = 0.0
        for session in nodes["slow"].p2p._roster:
            session.clock_ahead = 0.0  # as the next ping finds
        await until(lambda: "slow: the clock agrees with the peers' again" in caplog.text, 20)
    finally:
        for node in nodes.values():
            await node.stop()
