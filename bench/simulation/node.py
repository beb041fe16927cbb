"""One simulated node: a real `Chain`, gossip, catch-up, and a minter, as `ponas_node.node` and `.minter` tie them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bench.simulation.behaviours import Behaviour
from bench.simulation.catchup import CatchUp
from bench.simulation.gossip import Gossip
from bench.simulation.joining import Joining
from bench.simulation.network import Session
from bench.simulation.pending import Pending
from bench.simulation.prover import Prover
from bench.simulation.setting import NETWORK
from bench.simulation.watch import Watch
from chain import accounts
from chain.chain import Chain, Outcome, Status
from chain.errors import Ignore, Missing
from chain.keys import PrivateKey
from chain.rules import BlockContext
from chain.types import Block, Transaction
from consensus.facts import facts_of
from ponas_node.clock import EARLY
from ponas_node.minter import WAIT
from ponas_node.p2p.scoring import POINTS, Standing
from pool.storage import MemoryStorage

if TYPE_CHECKING:
    from bench.simulation.miner import Miner
    from bench.simulation.world import World

_EXPLORE = 10.0  # seconds between calls to learned addresses, while there are too few peers


class Node:
    """A node. What a crash leaves: the chain's store, the last slot it minted in, what its miner sealed, its peers."""

    chain: Chain
    gossip: Gossip
    catch_up: CatchUp
    joining: Joining
    pending: Pending

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.events, self.network, self.rules = world.events, world.network, world.rules
        self.index = index
        self.key = index.to_bytes(4, "big")
        self.signing = world.keys[index]
        self.offset = world.setting.offsets.get(index, 0.0)
        self.alive = False
        self.sessions: dict[bytes, Session] = {}
        self.configured: list[Node] = []  # called for ever
        self.standing = Standing(NETWORK.ban_seconds)
        self.behaviour = Behaviour(self)
        self.miner: Miner | None = None
        self.prover: Prover | None = None
        self.watch: Watch | None = None
        self.kept = MemoryStorage()  # on disk beside its chain
        self._last_minted = 0
        self._life = 0
        self._exploring = False
        self._random = random.Random(f"{world.setting.seed} addresses {index}")

    # ---- life

    def start(self) -> None:
        """Open the store, call the configured peers, and do what is due from the next slot on."""
        self.alive, self._life = True, self._life + 1
        self.chain = self.world.execution.open(self.index)
        self.standing = Standing(NETWORK.ban_seconds)
        self.gossip, self.catch_up, self.joining = Gossip(self), CatchUp(self), Joining(self)
        self.pending = Pending(self, self.world.transactions)
        self.joining.look()
        if self.watch is not None:
            self.watch.witness.start()
        for peer in self.configured:
            self.network.dial(self, peer)
        if self.miner is not None or self.prover is not None or not self.behaviour.honest:
            self._plan_slot(max(1, self.slot() + 1))

    def stop(self) -> None:
        """Crash: connections break, and what was in memory is lost."""
        self.alive = False
        for session in list(self.sessions.values()):
            self.network.disconnect(session)
        self.world.execution.close(self.chain)

    def join(self, session: Session) -> None:
        """A connection stands."""
        self.sessions[session.key] = session
        self.gossip.join(session)
        self.pending.join(session)
        self.catch_up.plan()

    def leave(self, session: Session) -> None:
        """A connection is gone."""
        if self.sessions.get(session.key) is session:
            del self.sessions[session.key]
        if self.alive:
            self.gossip.leave(session)
            self.pending.leave(session)
            self.catch_up.leave(session)
            if session.peer in self.configured:
                self.events.after(0.5, self.network.dial, self, session.peer)
            if not self._exploring:
                self._explore()

    def _explore(self) -> None:
        """Call a node that peers told of, now and again, while there are fewer peers than there should be."""
        self._exploring = self.alive and len(self.sessions) < self.world.setting.outbound
        if self._exploring:
            peer = self.world.nodes[self._random.randrange(len(self.world.nodes))]
            if peer is not self:
                self.network.try_once(self, peer)
            self.events.after(_EXPLORE, self._explore)

    def blame(self, session: Session, code: str, times: float = 1) -> None:
        """A peer misbehaved: count it, and drop and ban the peer where it is too much."""
        if self.standing.add(session.key, POINTS[code] * times, self.events.now):
            self.standing.ban(session.key, code, self.events.now)
            self.world.observer.banned(self, session.peer)
            self.network.disconnect(session)

    # ---- time

    def slot(self) -> int:
        """Slot of this node's clock."""
        return self.world.setting.consensus.slot_at(self.events.now + self.offset)

    def _plan_slot(self, slot: int) -> None:
        at = self.world.setting.consensus.time_of(slot) - self.offset
        self.events.at(at, self._on_slot, slot, self._life)

    def _on_slot(self, slot: int, life: int) -> None:
        if life != self._life or not self.alive:
            return
        self._plan_slot(slot + 1)
        self.behaviour.on_slot(slot)
        if self.prover is not None:
            self.prover.step(slot)
        if self.miner is not None:  # at any time within the slot: who is first must not depend on a node's number
            self.events.after(self._random.random() * self.world.setting.slot_seconds, self._compete, life)
        if self.chain.tip.slot == slot - 1:
            self._mint(slot, life)
        else:
            self.events.after(WAIT * self.world.setting.slot_seconds, self._mint, slot, life)

    def _compete(self, life: int) -> None:
        if life == self._life and self.alive and self.miner is not None:
            self.miner.step(max(self.slot(), self.chain.tip.slot + 1))
            if self.watch is not None:
                self.watch.step(self.slot())

    def _mint(self, slot: int, life: int) -> None:
        if life != self._life or not self.alive:
            return
        if slot <= self.chain.tip.slot or slot <= self._last_minted or self.catch_up.syncing:
            return
        seat, owner = self.world.execution.leader(self.chain, slot)
        if owner == self.signing.public:
            self._last_minted = slot
            self.behaviour.mint(slot, seat)

    # ---- blocks and transactions

    def draft(self, slot: int, seat: bytes) -> Block:
        """A signed block on the tip, of what waits here."""
        context = BlockContext(self.chain.tip.height + 1, slot, self.chain.tip.id, seat)
        pool = self.pending.mempool(self.rules, self.world.oracle, context, self.behaviour.takes)
        header, transactions = self.chain.draft(slot, seat, self.signing.public, pool.best_first())
        return Block(header.signed(self.signing, self.rules.network), transactions)

    def publish(self, block: Block) -> None:
        """Take a block that was minted here."""
        self.world.observer.minted(self, block)
        self.receive(block)

    @property
    def nonce(self) -> int:
        """Nonce of this node's account on its branch."""
        return self.nonce_of(self.signing)

    def nonce_of(self, key: PrivateKey) -> int:
        """Nonce of the account of a key on this node's branch."""
        return accounts.account(self.chain.state, key.address).nonce

    def send(self, transaction: Transaction) -> None:
        """Send a transaction of this node's own, or send it again."""
        self.pending.learn(self.world.transactions.add(transaction))

    def receive(self, block: Block) -> None:
        """Check a block and follow it where it makes a better chain; raises Invalid."""
        self.joining.look()
        if block.header.slot > self.slot() + EARLY:
            raise Ignore(f"slot {block.header.slot} has not begun yet", "early")
        while True:
            try:
                outcome = self.chain.add_block(block)
                break
            except Missing as error:
                self.world.oracle.establish(facts_of(error))
        self.after(outcome, block)

    def after(self, outcome: Outcome, block: Block) -> None:
        """Tell every part of the node what became of a block."""
        self.world.observer.arrived(self, block)
        if self.watch is not None:
            for each in outcome.connected or (block,):
                self.watch.witness.see(each.header)
        if outcome.status in (Status.EXTENDED, Status.REORG):
            self.pending.follow(outcome)
            self.world.observer.on_tip(self, outcome)
            self.gossip.announce(block)
