"""Sees everything, and checks what must hold after every event; a breach names the seed and the event.

States change only where a tip does, so looking at each change of tip is looking after each event.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from bench.simulation.justice import Justice
from chain import accounts
from chain.chain import Outcome
from chain.state import Overlay, StateView
from chain.tree import tree_root
from chain.types import Block, Kind
from consensus import records

if TYPE_CHECKING:
    from bench.simulation.node import Node
    from bench.simulation.world import World


class Violation(Exception):
    """Something happened that must not."""


class Observer:
    """Invariants and figures of one simulation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settled: dict[int, bytes] = {}  # block at each height that some honest node cannot undo any more
        self._settled_by: dict[int, int] = {}  # height up to which each node has settled
        self._roots: dict[bytes, bytes] = {}
        self._checked: set[bytes] = set()
        self._minted_at: dict[bytes, float] = {}
        self._seated: set[bytes] = set()  # results that have or had seats on some branch
        self.justice = Justice(world)
        self.blocks: dict[bytes, Block] = {}  # of honest minters
        self.delays = array("d")  # seconds from a block's minting to its arrival at an honest node
        self.reorganisations = 0
        self.deepest = 0  # slots that an honest node went back
        self.bans: Counter[str] = Counter()
        self.seats: Counter[int] = Counter()  # seats won on some branch, by node
        self.most_byzantine = 0.0  # largest part of the active seats that misbehaving nodes had

    def fail(self, what: str) -> NoReturn:
        """Raise a violation."""
        events = self._world.events
        raise Violation(f"{what} (seed {self._world.setting.seed}, event {events.count}, at {events.now:.3f} s)")

    def minted(self, node: Node, block: Block) -> None:
        """A node minted a block."""
        if node.behaviour.honest:
            self._minted_at[block.id] = self._world.events.now
            self.justice.minted(block)
            self.blocks[block.id] = block

    def banned(self, node: Node, peer: Node) -> None:
        """A node banned a peer."""
        if node.behaviour.honest:
            self.bans["honest" if peer.behaviour.honest else "byzantine"] += 1

    def arrived(self, node: Node, block: Block) -> None:
        """A block is known to a node."""
        at = self._minted_at.get(block.id)
        if at is not None and node.behaviour.honest and block.header.minter != node.signing.public:
            self.delays.append(self._world.events.now - at)

    def on_tip(self, node: Node, outcome: Outcome) -> None:
        """The tip of a node changed."""
        self._world.events.note(node.key + node.chain.tip.id)
        if not node.behaviour.honest:
            return
        tip, chain = node.chain.tip, node.chain
        if outcome.disconnected:
            self.reorganisations += 1
            self._check_depth(node, outcome.disconnected)
        settled = self._settled_by.get(node.index, 0)
        if settled and chain.id_at(settled) != self._settled[settled]:
            self.fail(f"node {node.index} went back behind what it had settled, height {settled}")
        root = tree_root(chain.store.nodes)
        if self._roots.setdefault(tip.id, root) != root or root != tip.state_root:
            self.fail(f"node {node.index} has another state at tip {tip.id.hex()[:16]}")
        self._settle(node)
        if any(block.id not in self._checked for block in outcome.connected):
            self._check_blocks(node, outcome.connected)

    def _check_depth(self, node: Node, disconnected: tuple[Block, ...]) -> None:
        parent = node.chain.header(disconnected[-1].header.parent)
        depth = disconnected[0].header.slot - (parent.slot if parent is not None else 0)
        self.deepest = max(self.deepest, depth)

    def _settle(self, node: Node) -> None:
        """Compare what `node` cannot undo any more with what others cannot; while it joins, that stays as it was."""
        chain = node.chain
        if chain.horizon is not None:
            return
        limit = chain.tip.slot - self._world.setting.ledger.max_rollback
        height = self._settled_by.get(node.index, 0)
        while True:
            id = chain.id_at(height + 1)
            header = None if id is None else chain.header(id)
            if id is None or header is None or header.slot >= limit:
                break
            height += 1
            if self._settled.setdefault(height, id) != id:
                self.fail(f"node {node.index} settled another block at height {height}")
        self._settled_by[node.index] = height

    def _check_blocks(self, node: Node, connected: tuple[Block, ...]) -> None:
        """Check supply and seats after each of these blocks, the tip's last, that was on nobody's chain yet."""
        after, before = Overlay(node.chain.state), Overlay(node.chain.state)
        for block in reversed(connected):
            undo = node.chain.store.undo(block.header.height) or {}
            before.write(undo)
            if block.id not in self._checked:
                self._checked.add(block.id)
                self._check_supply(node, block, after, undo)
                self.justice.check_block(node.chain, block, before, after)
                if records.WINDOW in undo:
                    self._count_seats(after)
            after.write(undo)

    def _check_supply(self, node: Node, block: Block, after: StateView, undo: Mapping[bytes, bytes | None]) -> None:
        moved = minted = 0
        for key, old in undo.items():
            if key.startswith(accounts.ACCOUNT):
                moved += _balance(after.get(key)) - _balance(old)
            elif key == accounts.SUPPLY:
                minted = accounts.supply(after) - int.from_bytes(old or b"", "big")
        subsidy = node.rules.parameters.subsidy_at(block.header.height)
        burns = any(each.kind in (Kind.CHALLENGE, Kind.EVIDENCE) for each in block.transactions)
        if moved != minted or minted > subsidy or (minted < subsidy and not burns):
            self.fail(f"block {block.id.hex()[:16]} minted {minted} and moved {moved}")

    def _count_seats(self, state: StateView) -> None:
        byzantine, active = 0, records.active_seats(state)
        for seat in active:
            owner, is_result = self._owner(state, seat)
            byzantine += not owner.behaviour.honest
            if is_result and seat not in self._seated:
                self._seated.add(seat)
                self.seats[owner.index] += 1
        self.most_byzantine = max(self.most_byzantine, byzantine / len(active))

    def _owner(self, state: StateView, seat: bytes) -> tuple[Node, bool]:
        """Whose seat it is, and whether a result won it."""
        holder = records.seat_holder(state, seat)
        if holder is None:
            self.fail(f"seat {seat.hex()[:16]} belongs to nobody")
        return self._world.owner(holder[0]), state.get(records.RESULT + seat) is not None

    # ---- liveness

    def agreed(self, behind: int = 2) -> bool:
        """Whether the honest nodes that run follow one chain, none more than `behind` blocks behind the best."""
        chains = [node.chain for node in self._world.honest]
        least, most = min(c.height for c in chains), max(c.height for c in chains)
        common = max(0, least - behind)
        return most - least <= behind and len({chain.id_at(common) for chain in chains}) == 1


def _balance(data: bytes | None) -> int:
    return 0 if data is None else accounts.Account.decode(data).balance
