"""Transactions on their way: who knows which, as bit masks, and what a minter could put into a block.

Sets of transactions replace the inventory of single ones: a thousand nodes would otherwise spend all time on ids. What
is announced is asked for, and what is asked for is sent, as in the real gossip. A mempool is made of what a node knows
when it is needed: to mint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.simulation.network import Session
from bench.simulation.oracle import Oracle
from bench.simulation.setting import NETWORK
from chain.chain import Outcome, Status
from chain.errors import Invalid, Missing
from chain.mempool import Mempool
from chain.rules import BlockContext
from chain.types import Block, Transaction
from consensus.facts import facts_of
from consensus.rules import ConsensusRules

if TYPE_CHECKING:
    from bench.simulation.node import Node

_TICK = 0.25  # seconds for which announcements are gathered
_ID = 34  # bytes of an id in an announcement or a request


class Transactions:
    """Every transaction that was ever sent, by number. A set of them is an int whose bits are the numbers."""

    def __init__(self) -> None:
        self.all: list[Transaction] = []
        self._numbers: dict[bytes, int] = {}
        self._masks: dict[bytes, int] = {}
        self._fresh_from: list[int] = [0]

    def add(self, transaction: Transaction) -> int:
        """The set of this transaction alone."""
        number = self._numbers.setdefault(transaction.id, len(self.all))
        if number == len(self.all):
            self.all.append(transaction)
        return 1 << number

    def new_epoch(self) -> None:
        """Transactions that were sent before the last epoch are not offered to minters any more."""
        self._fresh_from = [self._fresh_from[-1], len(self.all)]

    def fresh(self, known: int) -> list[Transaction]:
        """Those of a set that are not too old, oldest first."""
        first = self._fresh_from[0]
        return [self.all[first + place] for place in _places(known >> first)]

    def bytes_of(self, mask: int) -> int:
        """Size of all transactions of a set."""
        return sum(len(self.all[place].raw) for place in _places(mask))

    def within(self, block: Block) -> int:
        """The set of a block's transactions, but for those that were never sent on their own."""
        mask = self._masks.get(block.id)
        if mask is None:
            numbers = [self._numbers.get(each.id) for each in block.transactions[1:]]
            mask = self._masks[block.id] = sum(1 << number for number in numbers if number is not None)
        return mask


def _places(mask: int) -> list[int]:
    places, base = [], 0
    while mask:
        part = mask & 0xFFFFFFFFFFFFFFFF
        while part:
            lowest = part & -part
            places.append(base + lowest.bit_length() - 1)
            part ^= lowest
        mask >>= 64
        base += 64
    return places


class Pending:
    """What one node knows of transactions."""

    def __init__(self, node: Node, transactions: Transactions) -> None:
        self._node = node
        self._library = transactions
        self.known = 0
        self.included = 0  # on the best chain
        self._untold = 0
        self._asked = 0

    def learn(self, mask: int) -> None:
        """Take transactions in, and tell the peers with the next tick."""
        new = mask & ~self.known
        if new:
            self.known |= new
            if not self._untold:
                self._node.events.after(_TICK, self._tell)
            self._untold |= new

    def join(self, session: Session) -> None:
        """A new peer hears of everything that waits."""
        waiting = self.known & ~self.included
        if waiting:
            self._announce(session, waiting)

    def leave(self, session: Session) -> None:
        """What a peer that is gone owed us is asked of others."""
        self._late(session)

    def _tell(self) -> None:
        mask, self._untold = self._untold, 0
        if self._node.alive and self._node.pending is self:
            for session in self._node.sessions.values():
                self._announce(session, mask & ~session.told)

    def _announce(self, session: Session, mask: int) -> None:
        if mask:
            session.told |= mask
            self._node.network.send(session, _ID * mask.bit_count(), _on_announce, mask)

    def _late(self, session: Session) -> None:
        lost, session.asked = session.asked & ~self.known, 0
        self._asked &= ~lost
        for other in self._node.sessions.values() if lost else ():
            if other is not session:
                self.ask(other, lost & other.told)
                lost &= ~self._asked

    def ask(self, session: Session, mask: int) -> None:
        """Ask a peer for what it has and we lack."""
        wanted = mask & ~self.known & ~self._asked
        if wanted:
            self._asked |= wanted
            session.asked |= wanted
            self._node.network.send(session, _ID * wanted.bit_count(), _on_request, wanted)
            self._node.events.after(NETWORK.item_timeout, self._expire, session)

    def _expire(self, session: Session) -> None:
        if session.open and self._node.pending is self:
            self._late(session)

    def serve(self, session: Session, mask: int) -> None:
        """A peer wants transactions."""
        found = mask & self.known
        if found:
            session.told |= found
            self._node.network.send(session, self._library.bytes_of(found), _on_delivery, found)

    def deliver(self, session: Session, mask: int) -> None:
        """A peer sent transactions."""
        session.asked &= ~mask
        self._asked &= ~mask
        self.learn(mask)

    def follow(self, outcome: Outcome) -> None:
        """Follow a change of tip."""
        connected = outcome.connected
        if (
            outcome.status is Status.REORG and not outcome.disconnected
        ):  # a branch was left as a whole, for a denser one
            self.included, chain = 0, self._node.chain
            connected = tuple(filter(None, map(chain.block_at, range(1, chain.height + 1))))
        for block in outcome.disconnected:
            self.included &= ~self._library.within(block)
        for block in connected:
            mask = self._library.within(block)
            self.included |= mask
            self.known |= mask

    def mempool(
        self, rules: ConsensusRules, oracle: Oracle, context: BlockContext, takes: Callable[[Transaction], bool]
    ) -> Mempool:
        """A mempool of what waits here, filled in order of arrival."""
        pool = Mempool(rules)
        for transaction in self._library.fresh(self.known & ~self.included):
            if takes(transaction):
                with contextlib.suppress(Invalid):
                    try:
                        pool.add(transaction, self._node.chain.state, context)
                    except Missing as error:
                        oracle.establish(facts_of(error))
                        pool.add(transaction, self._node.chain.state, context)
        return pool


def _on_announce(session: Session, mask: int) -> None:
    session.told |= mask
    session.owner.pending.ask(session, mask)


def _on_request(session: Session, mask: int) -> None:
    session.owner.pending.serve(session, mask)


def _on_delivery(session: Session, mask: int) -> None:
    session.owner.pending.deliver(session, mask)
