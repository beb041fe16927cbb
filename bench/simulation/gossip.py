"""How a simulated node hears of blocks: the real `Inventory`, tied to simulated sessions as `p2p.gossip` ties it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.network import Session
from bench.simulation.setting import NETWORK
from chain.errors import Invalid, Reject, UnknownParent
from chain.types import Block
from ponas_node.p2p.gossip import FAR, REST_BAD, REST_BLOCK, block_bounds
from ponas_node.p2p.inventory import Ask, Inventory

if TYPE_CHECKING:
    from bench.simulation.node import Node

_ANNOUNCE = 36  # bytes
_TIP = 44
_CHECK_BLOCK, _CHECK_TRANSACTION = 0.004, 0.0005  # seconds, about what docs/benchmarks.md shows


class Gossip:
    """Announcements, requests and deliveries of blocks of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._inventory = Inventory(node.chain.has, block_bounds(NETWORK.item_timeout))
        self._timer = False

    def join(self, session: Session) -> None:
        """A peer is there."""
        self._inventory.join(session.key)

    def leave(self, session: Session) -> None:
        """A peer is gone."""
        self._ask(self._inventory.leave(session.key, self._node.events.now))

    def announce(self, block: Block) -> None:
        """Tell the peers of a block. It is the tip, or was built to be: height and id go with it, as `Tip` would."""
        node = self._node
        if node.catch_up.syncing:
            return
        for session in list(node.sessions.values()):
            if node.behaviour.tells(session, block) and self._inventory.to_tell(session.key, [block.id]):
                self.tell(session, block)

    def tell(self, session: Session, block: Block) -> None:
        """Tell one peer of a block, whether or not it knows of it."""
        self._node.network.send(session, _ANNOUNCE + _TIP, _on_announce, block.id, block.header.height)

    def announced(self, session: Session, id: bytes, height: int) -> None:
        """A peer has a block, its tip."""
        node = self._node
        session.height, session.tip = height, id
        if not (node.catch_up.syncing and height > node.chain.tip.height + FAR):
            self._ask(self._inventory.announced(session.key, (id,), node.events.now))
        if height > node.chain.tip.height or node.chain.horizon is not None:
            node.catch_up.plan()

    def requested(self, session: Session, ids: tuple[bytes, ...]) -> None:
        """A peer wants blocks."""
        for id in ids:
            block = self._node.behaviour.serves(session, id)
            if block is None:
                self._node.network.send(session, _ANNOUNCE, _on_not_found, id)
            else:
                self._node.network.send(session, len(block.raw), _on_block, block, extra=_check_seconds(block))

    def not_found(self, session: Session, id: bytes) -> None:
        """A peer does not have what it announced."""
        count, asks = self._inventory.not_found(session.key, (id,), self._node.events.now)
        self._node.blame(session, "not_delivered" if count else "unsolicited")
        self._ask(asks)

    def delivered(self, session: Session, block: Block) -> None:
        """A peer sent a block."""
        node, now = self._node, self._node.events.now
        if not self._inventory.delivered(session.key, block.id):
            node.blame(session, "unsolicited")
            return
        try:
            node.receive(block)
        except UnknownParent:
            node.catch_up.behind(session, block)
        except Reject as error:
            if error.code != "bad_transactions_root":
                self._inventory.settle(block.id, now + REST_BAD)
            node.blame(session, "invalid_block")
        except Invalid:
            self._inventory.settle(block.id, now + REST_BLOCK)
        finally:
            self._ask(self._inventory.judged(session.key, now))

    def _ask(self, asks: Ask) -> None:
        node = self._node
        for key in sorted(asks):  # the inventory goes through sets: their order must not matter
            session = node.sessions.get(key)
            if session is not None:
                node.network.send(session, _ANNOUNCE * len(asks[key]), _on_request, tuple(asks[key]))
        if asks and not self._timer:
            self._timer = True
            node.events.after(NETWORK.item_timeout, self._expire)

    def _expire(self) -> None:
        self._timer = False
        node = self._node
        if not node.alive or node.gossip is not self:
            return
        missed, asks = self._inventory.expire(node.events.now)
        for key in sorted(missed):
            if (session := node.sessions.get(key)) is not None:
                node.blame(session, "not_delivered", missed[key])
        self._ask(asks)
        if not self._timer and any(self._inventory.expects(key) for key in node.sessions):
            self._timer = True
            node.events.after(1.0, self._expire)


def _check_seconds(block: Block) -> float:
    """What the receiver needs to judge a block."""
    return _CHECK_BLOCK + _CHECK_TRANSACTION * len(block.transactions)


def _on_announce(session: Session, id: bytes, height: int) -> None:
    session.owner.gossip.announced(session, id, height)


def _on_request(session: Session, ids: tuple[bytes, ...]) -> None:
    session.owner.gossip.requested(session, ids)


def _on_not_found(session: Session, id: bytes) -> None:
    session.owner.gossip.not_found(session, id)


def _on_block(session: Session, block: Block) -> None:
    session.owner.gossip.delivered(session, block)
