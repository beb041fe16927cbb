"""What a node does with its seats, results and blocks: honestly here, otherwise in `bench.simulation.byzantine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bench.simulation.network import Session
from chain.types import Block, Transaction
from consensus.types import EpochRecord

if TYPE_CHECKING:
    from bench.simulation.miner import Batch, Miner
    from bench.simulation.node import Node

Ranked = tuple[int, "Batch", int]
"""Correct predictions under the beacon, and batch and place of a sealed result."""


class Behaviour:
    """The honest one. Others override what they do differently."""

    honest: ClassVar[bool] = True

    def __init__(self, node: Node) -> None:
        self.node = node

    def on_slot(self, slot: int) -> None:
        """A slot begins by the node's clock."""

    def mint(self, slot: int, seat: bytes) -> None:
        """The slot belongs to a seat of this node, on its tip."""
        self.node.publish(self.node.draft(slot, seat))

    def takes(self, transaction: Transaction) -> bool:
        """Whether to put a transaction into a block."""
        return True

    def seals(self, miner: Miner, epoch: EpochRecord) -> list[Batch]:
        """What the miner commits to."""
        return miner.seal(epoch, miner.train(epoch))

    def opens(self, ranked: list[Ranked], most: int) -> list[Ranked]:
        """Which of its results, best first, the miner reveals, where an honest one reveals at most so many."""
        return ranked[:most]

    def tells(self, session: Session, block: Block) -> bool:
        """Whether to announce a block to a peer."""
        return True

    def serves(self, session: Session, id: bytes) -> Block | None:
        """The block that a peer asked for, or None to say that it is not here."""
        return self.node.chain.block(id)
