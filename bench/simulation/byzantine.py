"""Nodes that misbehave with blocks. They use the real rules to make what hurts most, and their own seats only."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bench.simulation.behaviours import Behaviour
from bench.simulation.network import Session
from bench.simulation.node import Node
from chain.hashing import digest
from chain.types import (
    Block,
    CoinbaseBody,
    Header,
    Kind,
    Output,
    Transaction,
    TransferBody,
    coinbase_transaction,
    sign_transaction,
    transactions_root,
)

HOLD = 6  # slots for which the first block of a secret branch is held back


class Byzantine(Behaviour):
    """Base of all that misbehave."""

    honest: ClassVar[bool] = False

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.extra: dict[bytes, Block] = {}  # blocks that are served though they are not on the node's chain

    def serves(self, session: Session, id: bytes) -> Block | None:
        """As the honest one, and what was made beside the chain."""
        return self.extra.get(id) or super().serves(session, id)

    def transfer(self, nonce: int, amount: int = 1) -> Transaction:
        """A payment to itself, so that a block differs from another."""
        node = self.node
        body = TransferBody((Output(node.signing.address, amount),))
        return sign_transaction(node.signing, node.rules.network, Kind.TRANSFER, nonce, 1000, body)


class Silent(Byzantine):
    """Never mints."""

    def mint(self, slot: int, seat: bytes) -> None:
        """Leave the slot empty."""


class Censor(Byzantine):
    """Leaves commits, reveals and beacons of others out of its blocks."""

    def takes(self, transaction: Transaction) -> bool:
        """Only what is its own."""
        return transaction.sender == self.node.signing.public


class Equivocator(Byzantine):
    """Mints two blocks for each of its slots, and shows each to half of its peers."""

    def mint(self, slot: int, seat: bytes) -> None:
        """The second block carries one transfer, the first what waits."""
        node = self.node
        node.world.observer.justice.offended(seat, slot)
        first = node.draft(slot, seat)
        header, transactions = node.chain.draft(slot, seat, node.signing.public, [self.transfer(node.nonce)])
        second = Block(header.signed(node.signing, node.rules.network), transactions)
        self.extra[second.id] = second
        node.publish(first)
        node.gossip.announce(second)

    def takes(self, transaction: Transaction) -> bool:
        """No evidence."""
        return transaction.kind != Kind.EVIDENCE

    def tells(self, session: Session, block: Block) -> bool:
        """Odd peers hear of the second block, even ones of the first."""
        if block.header.minter != self.node.signing.public:
            return True
        return (block.id in self.extra) == bool(session.peer.index % 2)


class Coalition:
    """What nodes that withhold blocks together know of one another."""

    def __init__(self) -> None:
        self.members: set[int] = set()
        self.secret: dict[bytes, int] = {}  # id and slot of each block that is held back
        self.released = 0


class Withholder(Byzantine):
    """Builds a branch in secret together with its like, and shows it when the first block is old enough."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._coalition: Coalition = node.world.coalition
        self._coalition.members.add(node.index)
        self._seen = 0

    def mint(self, slot: int, seat: bytes) -> None:
        """Mint for the coalition only."""
        block = self.node.draft(slot, seat)
        self._coalition.secret[block.id] = slot
        self.node.publish(block)

    def on_slot(self, slot: int) -> None:
        """Release what is old enough; announce the own tip after a release."""
        coalition = self._coalition
        if coalition.secret and min(coalition.secret.values()) <= slot - HOLD:
            coalition.secret.clear()
            coalition.released += 1
        if self._seen != coalition.released:
            self._seen = coalition.released
            tip = self.node.chain.block(self.node.chain.tip.id)
            if tip is not None:
                for session in list(self.node.sessions.values()):
                    self.node.gossip.tell(session, tip)

    def tells(self, session: Session, block: Block) -> bool:
        """Secret blocks stay in the coalition."""
        return block.id not in self._coalition.secret or session.peer.index in self._coalition.members

    def serves(self, session: Session, id: bytes) -> Block | None:
        """Secret blocks stay in the coalition."""
        if id in self._coalition.secret and session.peer.index not in self._coalition.members:
            return None
        return super().serves(session, id)


class Forger(Byzantine):
    """Floods with blocks that break a rule: in its own slots, and in those of others."""

    def on_slot(self, slot: int) -> None:
        """A block for whoever's slot this is, under its own key."""
        node = self.node
        if slot > node.chain.tip.slot:
            seat, owner = node.world.execution.leader(node.chain, slot)
            if owner != node.signing.public:
                self._show(node.draft(slot, seat))

    def mint(self, slot: int, seat: bytes) -> None:
        """A block with a false state root, or one whose coinbase pays too much."""
        block = self.node.draft(slot, seat)
        if slot % 2:
            self._show(self._signed(dataclasses.replace(block.header, state_root=digest("forged")), block.transactions))
            return
        body = CoinbaseBody.decode(block.transactions[0].body)
        outputs = (*body.outputs, Output(self.node.signing.address, 1))
        transactions = (coinbase_transaction(body.height, outputs), *block.transactions[1:])
        header = dataclasses.replace(block.header, transactions_root=transactions_root(transactions))
        self._show(self._signed(header, transactions))

    def _signed(self, header: Header, transactions: tuple[Transaction, ...]) -> Block:
        return Block(header.signed(self.node.signing, self.node.rules.network), transactions)

    def _show(self, block: Block) -> None:
        self.extra[block.id] = block
        self.node.gossip.announce(block)


class Spammer(Byzantine):
    """Fills blocks and pools with payments to itself."""

    EACH_SLOT: ClassVar[int] = 8

    def on_slot(self, slot: int) -> None:
        """Some payments more."""
        nonce = self.node.nonce
        for number in range(self.EACH_SLOT):
            self.node.send(self.transfer(nonce + number, slot))
