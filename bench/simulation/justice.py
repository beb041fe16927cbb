"""Checks that cheats lose the seats that they won by it, and that nobody else loses any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.oracle import training_leaves
from chain.chain import Chain
from chain.state import StateView
from chain.types import Block, Kind
from consensus import records
from consensus.types import ResultRecord

if TYPE_CHECKING:
    from bench.simulation.node import Node
    from bench.simulation.world import World

TRAVEL = 4  # slots in which a challenge that is sent again in each of them is everywhere, where nobody is cut off
CHANCES = 3  # blocks with room for it that may go by even so: it may wait for another one of its sender


class Justice:
    """Knows who cheated, and which blocks could have put a stop to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[bytes, dict[int, tuple[int, int]]] = {}  # first and last slot, by forged result and node
        self._chances: dict[bytes, list[bytes]] = {}  # what could be revoked by each honest block that had room for it
        self.offences: dict[bytes, int] = {}  # of each seat that is to be lost for it, the slot of the first

    def offended(self, seat: bytes, slot: int) -> None:
        """The owner of a seat does what costs the seat."""
        self.offences.setdefault(seat, slot)

    def challenged(self, node: Node, result: bytes) -> None:
        """An honest node sends a challenge that is right, or sends it again."""
        slot, sent = node.slot(), self._sent.setdefault(result, {})
        first, last = sent.get(node.index, (slot, slot))
        unbroken = last >= slot - 1 and not self._world.network.parted
        sent[node.index] = (first if unbroken else slot, slot)

    def minted(self, block: Block) -> None:
        """An honest node minted a block."""
        slot, most = block.header.slot, self._world.setting.consensus.challenges_per_block
        if self._sent and sum(each.kind == Kind.CHALLENGE for each in block.transactions) < most:
            self._chances[block.id] = [
                result
                for result, sent in self._sent.items()
                if any(first <= slot - TRAVEL and last >= slot - 1 for first, last in sent.values())
            ]

    def check_block(self, chain: Chain, block: Block, before: StateView, after: StateView) -> None:
        """Look at what a block of the chain did; fails the observer's way."""
        undo = chain.store.undo(block.header.height) or {}
        if records.WINDOW in undo:
            for seat in records.won_seats(after):
                self._check_seat(block, seat, after)
        lost = set(records.ids(before, records.BOOTSTRAP)) - set(records.ids(after, records.BOOTSTRAP))
        for key in undo:
            if key.startswith(records.RESULT):
                result = records.need(after, key, ResultRecord)
                if result.revoked and is_genuine(result, after):
                    lost.add(result.id)
        for seat in sorted(lost - self.offences.keys()):
            self._world.observer.fail(f"seat {seat.hex()[:16]} was lost for nothing")
        if self._sent:
            self._check_pending(chain, block.header.height, before)

    def _check_seat(self, block: Block, seat: bytes, state: StateView) -> None:
        """A result with a seat has its score; who is honest has trained it."""
        result = records.need(state, records.RESULT + seat, ResultRecord)
        genuine, owner = is_genuine(result, state), self._world.owner(result.owner)
        has_score = self._world.oracle.has_score(result, records.need_epoch(state, result.epoch))
        if not has_score or (owner.behaviour.honest and not genuine):
            self._world.observer.fail(f"seat {seat.hex()[:16]} rests on no valid result")
        if not genuine:
            self.offended(seat, block.header.slot)

    def _check_pending(self, chain: Chain, height: int, state: StateView) -> None:
        """A forged result whose seat becomes active in the block at `height` could hardly have been revoked before."""
        for group in records.seat_window(state).pending:
            if group.closes > height:
                continue
            since = group.closes - self._world.setting.consensus.challenge_blocks
            chances = self._chances_in(chain, range(since, height))
            for seat in group.seats:
                if seat in self.offences and chances.count(seat) > CHANCES:
                    self._world.observer.fail(
                        f"seat {seat.hex()[:16]} is forged, and {chances.count(seat)} blocks left it where it was"
                    )

    def _chances_in(self, chain: Chain, heights: range) -> list[bytes]:
        """Forged results that the blocks at these heights could have revoked, once for each block."""
        return [result for height in heights for result in self._chances.get(chain.canonical(height).id, [])]


def is_genuine(result: ResultRecord, state: StateView) -> bool:
    """Whether a result is its epoch's training of its architecture."""
    return training_leaves(result.genotype, records.need_epoch(state, result.epoch).seed) == result.leaves
