"""How a simulated node catches up: the real `Planner` and `check_batch`, driven as `p2p.sync.Syncer` drives them.

Deep forks are settled by `bench.simulation.joining`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.joining import Found
from bench.simulation.network import Session
from bench.simulation.setting import NETWORK
from chain.errors import Invalid, Reject, TooDeep, UnknownParent
from chain.types import Block
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import GiveUp, Misbehaviour
from ponas_node.p2p.gossip import FAR
from ponas_node.p2p.sync import LONG, Claim, Planner, check_batch

if TYPE_CHECKING:
    from bench.simulation.node import Node

_AGAIN = 0.05  # seconds beyond a grace or a rest, so that it is over


class CatchUp:
    """Catches up from one peer at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._planner = Planner(NETWORK.sync_grace)
        self._session: Session | None = None
        self._asked: tuple[bytes, ...] = ()
        self._last: Block | None = None
        self._request = 0  # number of the request under way, so that late answers and time-outs are told apart
        self._timer = False
        self._begin = 0  # height from which blocks came one after another
        self.syncing = False

    def behind(self, session: Session, block: Block) -> None:
        """A peer has a block whose parent we lack."""
        if block.header.height > session.height:
            session.height, session.tip = block.header.height, block.id
        self._planner.hurry()
        self.plan()

    def leave(self, session: Session) -> None:
        """A peer is gone."""
        self._planner.forget(session.key)
        if session is self._session:
            self._stop(NETWORK.sync_retry)

    def plan(self) -> None:
        """Choose whom to catch up from, if anybody."""
        node = self._node
        if self._session is not None or not node.alive:
            return
        height, chain, joining = node.chain.tip.height, node.chain, node.chain.horizon is not None
        ahead = [each for each in node.sessions.values() if joining or each.height > height]
        claims = [Claim(each.key, each.height, chain.has(each.tip), each.base) for each in ahead]
        key = self._planner.choose(node.events.now, height, claims, joining)
        session = None if key is None else node.sessions.get(key)
        if session is not None:
            self._session, self._last, self._begin = session, None, height
            if session.height > height:
                self._ask()
            else:
                node.joining.settle(session, self._settled)
            return
        if claims and not self._timer:
            self._timer = True
            node.events.after(NETWORK.sync_grace + _AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._timer = False
        if self._node.catch_up is self:
            self.plan()

    def _ask(self) -> None:
        node, session = self._node, self._session
        if session is None:
            return
        locator = ([self._last.id] if self._last is not None else []) + node.chain.locator()
        self._asked = tuple(dict.fromkeys(locator))[: m.MAX_LOCATOR]
        self._request += 1
        node.network.send(session, 34 * len(self._asked), _on_get_blocks, self._request, self._asked)
        node.events.after(NETWORK.batch_timeout, self._time_out, self._request)

    def _time_out(self, request: int) -> None:
        if request == self._request and self._session is not None and self._node.catch_up is self:
            self._node.blame(self._session, "stalled")
            self._stop(NETWORK.sync_retry)

    def serve(self, session: Session, request: int, locator: tuple[bytes, ...]) -> None:
        """A peer wants the blocks after a locator."""
        node = self._node
        found = node.chain.after(locator, m.MAX_BATCH_BLOCKS, m.MAX_BATCH_BYTES)
        blocks = tuple(block for block in found if node.behaviour.serves(session, block.id) is not None)
        node.network.send(session, sum(len(block.raw) for block in blocks), _on_blocks, request, blocks)

    def take(self, session: Session, request: int, blocks: tuple[Block, ...]) -> None:
        """The answer to our request."""
        node, chain = self._node, self._node.chain
        if request != self._request or session is not self._session:
            return
        self._request += 1
        if not blocks:
            if not chain.has(session.tip) and session.height > chain.tip.height:
                node.blame(session, "false_tip")
                self._stop(NETWORK.sync_retry)
            else:
                self._level()
            return
        try:
            check_batch(self._asked, -1 if self._last is None else self._last.header.height, blocks)
        except Misbehaviour as error:
            node.blame(session, error.code)
            self._stop(NETWORK.sync_retry)
            return
        self._each(session, self._request, blocks, 0, 0)

    def _each(self, session: Session, request: int, blocks: tuple[Block, ...], first: int, tries: int) -> None:
        """Hand blocks to the node, from `first` on; wait where it cannot judge one yet."""
        node = self._node
        if session is not self._session or request != self._request or node.catch_up is not self:
            return
        for place in range(first, len(blocks)):
            try:
                if not node.chain.has(blocks[place].id):
                    node.receive(blocks[place])
                self.syncing = session.height > node.chain.tip.height >= self._begin + FAR
            except Reject:
                node.blame(session, "invalid_block")
                self._stop(NETWORK.sync_retry)
                return
            except TooDeep:
                if node.joining.look():
                    node.joining.settle(session, self._settled)
                else:
                    self._stop(NETWORK.sync_retry * LONG)
                return
            except UnknownParent:
                self._stop(NETWORK.sync_retry)
                return
            except Invalid:
                tries = tries if place == first else 0
                if tries == len(NETWORK.sync_patience):
                    self._stop(NETWORK.sync_retry)
                else:
                    self._pause()
                    wait = NETWORK.sync_patience[tries]
                    node.events.after(wait, self._each, session, request, blocks, place, tries + 1)
                return
        self._last = blocks[-1]
        if node.chain.has(session.tip):
            self._level()
        else:
            self._ask()

    def _settled(self, session: Session, found: Found) -> None:
        """It was found out whether the branch of a peer is the denser one, or why that cannot be."""
        node = self._node
        if session is not self._session or node.catch_up is not self:
            return
        if found is True:
            self._last, self._begin = None, node.chain.tip.height
            self._ask()
        elif found is False:
            self._planner.compared(session.key, node.events.now + NETWORK.sync_retry * LONG)
            if session.height > node.chain.tip.height:
                self._stop(NETWORK.sync_retry * LONG)
            else:
                self._level()
        else:
            if not isinstance(found, GiveUp):
                node.blame(session, found.code if isinstance(found, Misbehaviour) else "stalled")
            self._stop(NETWORK.sync_retry * (LONG if isinstance(found, GiveUp) and found.long else 1))

    def _level(self) -> None:
        if self._session is not None:
            self._planner.succeeded(self._session.key)
        self._session = None
        self._pause()
        self.plan()

    def _stop(self, rest: float) -> None:
        """Give up on this peer for a while."""
        session, self._session = self._session, None
        if session is not None:
            self._planner.failed(session.key, self._node.events.now + rest)
            self._planner.compared(session.key, self._node.events.now + rest)
            self._node.events.after(rest + _AGAIN, self._look_again)
        self._pause()
        self.plan()

    def _pause(self) -> None:
        """Nothing more is to be had now: tell the others of the tip, if they heard nothing meanwhile."""
        self._begin = self._node.chain.tip.height
        block = self._node.chain.block(self._node.chain.tip.id)
        if self.syncing and block is not None:
            self.syncing = False
            self._node.gossip.announce(block)


def _on_get_blocks(session: Session, request: int, locator: tuple[bytes, ...]) -> None:
    session.owner.catch_up.serve(session, request, locator)


def _on_blocks(session: Session, request: int, blocks: tuple[Block, ...]) -> None:
    session.owner.catch_up.take(session, request, blocks)
