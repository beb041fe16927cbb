"""A NodeView over a real chain, mempool and artifact store; time stands where the test puts it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from chain.chain import Chain
from chain.errors import Missing
from chain.mempool import Mempool
from chain.rules import BlockContext
from chain.types import Kind, Output, Transaction, TransferBody
from ponas_node.artifacts import ArtifactStore
from ponas_node.clock import ClockStatus, compare
from tests.consensus.world import SPEC, World

EVIL = '<script>alert("x")</script>'


class TestView:
    """What `ponas_node.node.Node` offers the API, without network and processes."""

    __test__ = False

    def __init__(self, path: Path, **task: object) -> None:
        spec = dataclasses.replace(SPEC, **{"name": EVIL, "bounty_per_epoch": 900, **task})
        self.world = World(path / "db", spec=spec, funded=2)
        self.genesis = self.world.genesis
        self.rules = self.world.rules
        self.chain: Chain = self.world.chain
        self.mempool = Mempool(self.rules)
        self.artifacts = ArtifactStore(path / "artifacts")
        self.pool: dict | None = None
        self.members: dict[bytes, dict] = {}
        self.syncing = False
        self.clock: float | None = None
        self.before_submit = None

    def now(self) -> float:
        return self.genesis.consensus.time_of(self.chain.tip.slot) + 0.25 if self.clock is None else self.clock

    def slot(self) -> int:
        return self.genesis.consensus.slot_at(self.now())

    def context(self) -> BlockContext:
        tip = self.chain.tip
        return BlockContext(
            tip.height + 1, tip.slot + 1, tip.id, self.rules.leader(self.chain.state, tip, tip.slot + 1)
        )

    async def submit_transaction(self, transaction: Transaction) -> None:
        if self.before_submit is not None:
            await self.before_submit()
        while True:
            try:
                self.mempool.add(transaction, self.chain.state, self.context())
                return
            except Missing as error:
                for fact in error.facts:
                    self.world.facts.establish(fact)

    def peers(self) -> list[dict]:
        return [{"address": "192.0.2.1:8646", "version": EVIL}]

    def sync_status(self) -> dict:
        return {"syncing": self.syncing, "target_height": 9, "seconds_left": 12.5}

    def clock_status(self) -> ClockStatus:
        return compare([2.5, 3.0], 1.0)

    def refusals(self) -> list[dict]:
        return [{"address": "192.0.2.2:8646", "reason": EVIL}]

    def pool_summary(self) -> dict | None:
        return self.pool

    def pool_member(self, address: bytes) -> dict | None:
        return self.members.get(address)

    def counters(self) -> dict[str, float]:
        return {"reorgs": 3, "evaluation_seconds": 1.5, "odd name!": 1}

    def transfer(
        self, amount: int = 5, fee: int = 20_000, sender: int = 1, target: int = 2, after: int = 0
    ) -> Transaction:
        key = self.world.keys[sender]
        body = TransferBody((Output(self.world.keys[target].address, amount),))
        return self.world.sign(key, Kind.TRANSFER, body, fee=fee, after=after)

    def compete(self) -> list[Transaction]:
        """One whole competition: two miners, three results; gives the reveals of the first."""
        finds = {1: [self.world.find(1, 150), self.world.find(2, 140)], 2: [self.world.find(3, 120)]}
        return self.world.competition(finds)[1]


def random_hash(n: int = 0) -> str:
    return random.Random(n).randbytes(32).hex()
