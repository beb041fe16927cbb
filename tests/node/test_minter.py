"""A minter never signs two blocks for one slot, not even when it was killed between signing and storing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponas_node.config import NodeConfig
from ponas_node.minter import Minter
from ponas_node.node import Node
from tests.network.cluster import key, small_genesis


async def test_a_slot_is_minted_once_across_a_crash(tmp_path: Path) -> None:
    now = 0.0
    genesis = small_genesis(bootstrap=1)

    def open_node() -> Node:
        return Node(NodeConfig(tmp_path / "node"), genesis, key(1), clock=lambda: now)

    node = open_node()
    minter = Minter(node, key(1))
    now = genesis.consensus.time_of(5) + 0.01

    async def crash(block: object) -> None:
        raise ConnectionAbortedError("killed before the block was stored")

    store_block, node.submit_block = node.submit_block, crash
    with pytest.raises(ConnectionAbortedError):
        await minter._mint(5)
    node.submit_block = store_block
    node.store.close()

    node = open_node()
    minter = Minter(node, key(1))
    await minter._mint(5)
    assert node.chain.height == 0, "the slot of the crash stays empty"
    now = genesis.consensus.time_of(6) + 0.01
    await minter._mint(6)
    assert node.chain.height == 1 and node.chain.tip.slot == 6
    await minter._mint(6)
    assert node.chain.height == 1
    await node.oracle.stop()
    node.store.close()


async def test_only_the_owner_of_the_leading_seat_mints(tmp_path: Path) -> None:
    genesis = small_genesis(bootstrap=1)
    now = genesis.consensus.time_of(5) + 0.01
    node = Node(NodeConfig(tmp_path / "node"), genesis, key(2), clock=lambda: now)
    await Minter(node, key(2))._mint(5)
    assert node.chain.height == 0
    await node.oracle.stop()
    node.store.close()
