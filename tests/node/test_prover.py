"""The prover: proves what is due, and stops at once when the beacon came from elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chain.types import Block, Kind, sign_transaction
from consensus import records
from consensus.facts import TRUE, fact_key
from consensus.genesis import Genesis
from consensus.types import BeaconBody, beacon_value
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from tests.network.cluster import key, small_genesis


class Rig:
    """A node without ports whose clock the test moves."""

    def __init__(self, root: Path, genesis: Genesis | None = None, **changes: int) -> None:
        self.genesis = genesis if genesis is not None else small_genesis(bootstrap=1, **changes)
        self.slot = 0
        self.node = Node(NodeConfig(root), self.genesis, clock=lambda: self.genesis.consensus.time_of(self.slot) + 0.01)

    async def mint(self, slot: int) -> None:
        self.slot = slot
        chain = self.node.chain
        seat = self.node.rules.leader(chain.state, chain.tip, slot)
        header, carried = chain.draft(slot, seat, key(1).public, self.node.mempool.best_first())
        await self.node.submit_block(Block(header.signed(key(1), self.node.network), carried))

    async def close(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.node.prover.stop()
        await self.node.oracle.stop()
        self.node.store.close()


async def until(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited 60 s")


async def test_proves_the_beacon_that_is_due(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "node")
    task = asyncio.create_task(rig.node.prover.run())
    try:
        close = rig.genesis.consensus.commit_close
        await rig.mint(close - 1)
        boundary = rig.node.chain.tip.id
        rig.slot = close + 1
        await until(lambda: len(rig.node.mempool) == 1)
        await rig.mint(close + 1)
        epoch = records.current_epoch(rig.node.chain.state)
        assert epoch.boundary == boundary and epoch.beacon
        assert rig.node.prover.proven == 1
    finally:
        await rig.close(task)


async def test_stops_when_the_beacon_comes_from_elsewhere(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "node", vdf_iterations=10**9)
    node = rig.node
    task = asyncio.create_task(node.prover.run())
    try:
        close = rig.genesis.consensus.commit_close
        await rig.mint(close)
        rig.slot = close + 1
        await until(lambda: node.prover._worker._child is not None)
        output = bytes([7]) * 200
        boundary = records.current_epoch(node.chain.state).boundary
        fact = node.rules.beacon_fact(boundary, output)  # taken as proven: nobody can wait for 10^9 squarings here
        node.store.namespace(b"facts").put(fact_key(fact), TRUE.to_bytes(8, "big"))
        beacon = sign_transaction(key(3), node.network, Kind.BEACON, 0, 0, BeaconBody(0, output))
        await node.submit_transaction(beacon)
        await rig.mint(close + 1)
        assert records.current_epoch(node.chain.state).beacon == beacon_value(output)
        await until(lambda: node.prover._worker._child is None)
        assert node.prover.proven == 0
    finally:
        await rig.close(task)


async def test_a_beacon_that_nobody_has_verified_does_not_stop_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "node")
    node = rig.node
    close = rig.genesis.consensus.commit_close
    await rig.mint(close)
    parked = sign_transaction(key(30), node.network, Kind.BEACON, 1, 0, BeaconBody(0, bytes(200)))
    await node.submit_transaction(parked)  # free, and taken: its nonce is not the next
    assert node.pending_transaction(parked.id) is not None
    task = asyncio.create_task(node.prover.run())
    try:
        rig.slot = close + 1
        await until(lambda: node.prover.proven == 1)
        await rig.mint(close + 1)
        assert records.current_epoch(node.chain.state).beacon
    finally:
        await rig.close(task)


async def test_proves_anew_where_a_reorganisation_moves_the_boundary(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "node")
    other = Rig(tmp_path / "other", rig.genesis)
    node, close = rig.node, rig.genesis.consensus.commit_close
    task, idle = asyncio.create_task(node.prover.run()), asyncio.create_task(asyncio.sleep(0))
    try:
        await rig.mint(close - 1)
        first = node.chain.tip.id
        rig.slot = close + 1
        await until(lambda: node.prover.proven == 1)
        for slot in (close - 2, close, close + 1):
            await other.mint(slot)
            block = other.node.chain.block_at(other.node.chain.height)
            assert block is not None
            await node.submit_block(block)
        boundary = records.current_epoch(node.chain.state).boundary
        assert boundary not in (b"", first)
        for slot in range(close + 2, close + 8):  # the one for the old boundary must fall out of the mempool first
            await rig.mint(slot)
            if records.current_epoch(node.chain.state).beacon:
                break
            await asyncio.sleep(1)
        epoch = records.current_epoch(node.chain.state)
        assert epoch.boundary == boundary and epoch.beacon and node.prover.proven == 2
    finally:
        await rig.close(task)
        await other.close(idle)
