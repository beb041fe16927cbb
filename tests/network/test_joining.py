"""Whole nodes over sockets: a late joiner whose first peer serves a private branch, and what the operator sees."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession

from chain.checkpoints import Checkpoint
from chain.failures import StoreError
from chain.types import Block
from consensus.genesis import Genesis
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from tests.network.cluster import key, small_genesis
from tests.p2p import fakes

NOW = 200
TRUNK = (1, 2, 3, 4, 5)
HONEST = (*range(6, 25), *range(30, NOW, 5))  # dense after the fork
PRIVATE = (*range(7, 30, 4), *range(30, NOW, 2))  # sparse there, and longer in the end


until = partial(fakes.until, seconds=60.0)


def rollback_of_20() -> Genesis:
    genesis = small_genesis(bootstrap=1)
    return dataclasses.replace(genesis, ledger=dataclasses.replace(genesis.ledger, max_rollback=20))


async def make_branch(root: Path, genesis: Genesis, slots: tuple[int, ...]) -> list[Block]:
    """A data directory with blocks of key 1 in these slots."""
    now = 0.0
    node = Node(NodeConfig(root), genesis, clock=lambda: now)
    blocks = []
    try:
        for slot in slots:
            now = genesis.consensus.time_of(slot) + 0.01
            seat = node.rules.leader(node.chain.state, node.chain.tip, slot)
            header, chosen = node.chain.draft(slot, seat, key(1).public, ())
            blocks.append(Block(header.signed(key(1), node.network), chosen))
            await node.submit_block(blocks[-1])
    finally:
        await node.oracle.stop()
        node.store.close()
    return blocks


class Nodes:
    """Nodes that run at one fixed moment."""

    def __init__(self, root: Path, genesis: Genesis) -> None:
        self.root, self.genesis = root, genesis
        self.running: list[Node] = []

    async def start(self, name: str, *peers: Node, checkpoints: tuple[Checkpoint, ...] = ()) -> Node:
        addresses = tuple(f"127.0.0.1:{peer.p2p.port}" for peer in peers)
        config = NodeConfig(
            self.root / name, peers=addresses, label=name, prover_delay=-1, checkpoints=checkpoints
        )  # fmt: skip
        node = Node(config, self.genesis, clock=lambda: self.genesis.consensus.time_of(NOW) + 0.01)
        self.running.append(node)
        await node.start()
        return node

    async def stop(self) -> None:
        for node in self.running:
            await node.stop()


async def test_a_late_joiner_whose_first_peer_serves_a_private_branch_ends_on_the_dense_one(tmp_path: Path) -> None:
    genesis = rollback_of_20()
    honest = await make_branch(tmp_path / "honest", genesis, TRUNK + HONEST)
    private = await make_branch(tmp_path / "private", genesis, TRUNK + PRIVATE)
    assert len(private) > len(honest)
    nodes = Nodes(tmp_path, genesis)
    try:
        liar = await nodes.start("private")
        late = await nodes.start("late", liar)
        await until(lambda: late.chain.tip.id == private[-1].id)
        assert late.branches.is_joining() and late.sync_status()["joining"]
        good = await nodes.start("honest", late)
        await until(lambda: late.chain.tip.id == honest[-1].id)
        await asyncio.sleep(2)  # the longer branch is still on offer
        assert late.chain.tip.id == honest[-1].id and late.chain.verify() == []
        assert (late.counters()["branches_adopted"], late.counters()["deep_reorgs_refused"]) == (1, 0)
        # Live nodes were shown the other branch all the while, and stay on their own.
        await until(lambda: good.counters()["deep_reorgs_refused"] > 0 or len(good.peers()) == 0)
        assert good.chain.tip.id == honest[-1].id and liar.chain.tip.id == private[-1].id
        assert not good.branches.is_joining() and not good.branches.adopted
    finally:
        await nodes.stop()


async def test_a_checkpoint_leads_a_joiner_and_is_shown(tmp_path: Path) -> None:
    genesis = rollback_of_20()
    honest = await make_branch(tmp_path / "honest", genesis, TRUNK + PRIVATE[:40])  # here the sparse one is right
    await make_branch(tmp_path / "dense", genesis, TRUNK + HONEST)
    trusted = Checkpoint(honest[30].header.height, honest[30].id)
    nodes = Nodes(tmp_path, genesis)
    try:
        dense = await nodes.start("dense")
        late = await nodes.start("late", dense, checkpoints=(trusted,))
        await until(lambda: any(refusal["code"] == "invalid_block" for refusal in late.refusals()))
        assert late.chain.height < trusted.height
        await nodes.start("honest", late)
        await until(lambda: late.chain.tip.id == honest[-1].id)
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{late.api_port}/v1/status") as answer:
            status = await answer.json()
        assert status["checkpoints"] == [{"height": trusted.height, "block": trusted.id.hex(), "reached": True}]
        assert late.chain.verify() == []
    finally:
        await nodes.stop()
    with pytest.raises(StoreError, match="checkpoint"):
        Node(NodeConfig(tmp_path / "dense", checkpoints=(trusted,)), genesis)
    again = Node(NodeConfig(tmp_path / "late", checkpoints=(trusted,)), genesis)  # nothing was left open
    again.store.close()
