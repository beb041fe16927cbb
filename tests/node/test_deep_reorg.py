"""A branch that forks below the rollback limit is refused, and the operator is told."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from chain.errors import TooDeep
from chain.types import Block
from consensus.genesis import Genesis
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from tests.network.cluster import key, small_genesis


class Alone:
    """A node whose clock the test sets; key 1 owns the only seat."""

    def __init__(self, root: Path, genesis: Genesis) -> None:
        self.now = 0.0
        self.node = Node(NodeConfig(root), genesis, clock=lambda: self.now)

    async def mint(self, slot: int) -> Block:
        chain, rules = self.node.chain, self.node.rules
        self.now = self.node.genesis.consensus.time_of(slot) + 0.01
        header, chosen = chain.draft(slot, rules.leader(chain.state, chain.tip, slot), key(1).public, ())
        block = Block(header.signed(key(1), self.node.network), chosen)
        await self.node.submit_block(block)
        return block

    async def close(self) -> None:
        await self.node.oracle.stop()
        self.node.store.close()


async def test_a_deep_branch_is_refused_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    genesis = small_genesis(bootstrap=1)
    genesis = dataclasses.replace(genesis, ledger=dataclasses.replace(genesis.ledger, max_rollback=4))
    one, other = Alone(tmp_path / "one", genesis), Alone(tmp_path / "other", genesis)
    for slot in (1, 2, 3, 4, 5):
        await one.mint(slot)
    tip = one.node.chain.tip
    block = await other.mint(6)
    one.now = other.now
    with caplog.at_level(logging.ERROR), pytest.raises(TooDeep):
        await one.node.submit_block(block)
    assert one.node.chain.tip == tip
    assert one.node.counters()["deep_reorgs_refused"] == 1
    assert block.id.hex()[:16] in caplog.text
    await one.close()
    await other.close()
