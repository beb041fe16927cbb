"""Whole nodes in one process, over real sockets, with real training: short slots, a small task."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from chain import accounts
from chain.keys import PrivateKey
from consensus import records
from consensus.genesis import Genesis
from ponas_node.config import NodeConfig
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from ponas_node.node import Node
from ponas_node.run import build_node
from ponas_node.testnet.genesis import digits_task, testnet_genesis

LIMIT = 120.0  # seconds that a test waits for something to come about


def key(n: int) -> PrivateKey:
    return PrivateKey(bytes([n]) * 32)


@functools.cache
def small_task():
    return dataclasses.replace(digits_task(), steps=40, segments=4, max_macs=80_000, baseline=1000)


def small_genesis(bootstrap: int = 3, funded: int = 6, **changes: int) -> Genesis:
    """Epochs of 16 s in slots of 400 ms; keys 1, 2, ... own the bootstrap seats and have balances."""
    base = testnet_genesis(
        int(time.time() * 1000) + 1000,
        bootstrap=tuple(key(i + 1).public for i in range(bootstrap)),
        funded=tuple(key(i + 1).address for i in range(funded)),
    )
    numbers = {
        "slot_milliseconds": 400, "epoch_slots": 40, "commit_close": 20, "reveal_open": 24, "reveal_close": 36,
        "beacon_grace": 6, "vdf_discriminant_bits": 256, "vdf_iterations": 20_000, **changes,
    }  # fmt: skip
    task = dataclasses.replace(base.tasks[0], spec=small_task())
    return dataclasses.replace(base, consensus=dataclasses.replace(base.consensus, **numbers), tasks=(task,))


class Cluster:
    """Nodes of one network. They stop when the context ends."""

    def __init__(self, root: Path, genesis: Genesis) -> None:
        self.root = root
        self.genesis = genesis
        self.nodes: dict[str, Node] = {}
        self.ahead = 0.0  # seconds by which the clocks of all nodes are ahead of this machine's
        self._members: list[tuple[asyncio.Task[None], LocalExecutor]] = []

    async def start(self, name: str, owner: PrivateKey | None = None, **options: Any) -> Node:
        """Start a node that knows all others."""
        peers = tuple(f"127.0.0.1:{node.p2p.port}" for other, node in self.nodes.items() if other != name)
        config = NodeConfig(data=self.root / name, peers=peers, label=name, **options)
        node = build_node(config, self.genesis, owner, lambda: time.time() + self.ahead)
        self.nodes[name] = node
        await node.start()
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    async def member(self, owner: PrivateKey, pool: Node, name: str) -> PoolMember:
        """Start a pool member."""
        executor = LocalExecutor()
        member = PoolMember(f"http://127.0.0.1:{pool.api_port}", owner, self.root / name, executor)
        self._members.append((asyncio.create_task(member.run()), executor))
        return member

    async def close(self) -> None:
        for task, executor in self._members:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await executor.stop()
        for name in list(self.nodes):
            await self.stop(name)

    # ---- what is asked of them

    async def until(self, what: str, condition: Callable[[], object], limit: float = LIMIT) -> None:
        """Wait for something; fails with `what` and the nodes' heights after `limit` seconds."""
        end = time.monotonic() + limit
        while not condition():
            for node in self.nodes.values():
                assert not node.failed.is_set(), f"{node.config.label} failed"
            if time.monotonic() > end:
                heights = {name: (node.chain.height, node.slot()) for name, node in self.nodes.items()}
                raise AssertionError(f"waited {limit:.0f} s for: {what}; heights and slots {heights}")
            await asyncio.sleep(0.1)

    def winners(self, node: Node, since: int = 0) -> list[records.ResultRecord]:
        """All seated results on a node's chain, of the epochs from `since` on."""
        last = records.current_epoch(node.chain.state).number
        epochs = [records.epoch(node.chain.state, n) for n in range(since, last)]
        won = [records.result(node.chain.state, id) for epoch in epochs if epoch for id in epoch.winners]
        return [result for result in won if result is not None]

    def agree(self) -> None:
        """All nodes have the same state root at every common height, and no coin came or went."""
        nodes = list(self.nodes.values())
        common = min(node.chain.height for node in nodes) - 2
        for height in range(1, common + 1):
            assert len({node.chain.id_at(height) for node in nodes}) == 1, f"nodes differ at height {height}"
        for node in nodes:
            total = sum(
                accounts.Account.decode(value).balance
                for k, value in node.store.state.items()
                if k.startswith(accounts.ACCOUNT)
            )
            assert total == accounts.supply(node.chain.state)
            assert node.chain.verify() == []


@contextlib.asynccontextmanager
async def cluster(root: Path, **changes: int) -> AsyncIterator[Cluster]:
    group = Cluster(root, small_genesis(**changes))
    try:
        yield group
    finally:
        await group.close()
