"""Compares this node's clock with its peers', and keeps blocks whose slot has not begun until it has.

The clock is never adjusted: peers may lie, and two nodes that follow each other would drift together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high, median_low

from chain.types import Block

EARLY = 1  # slots that a block may be ahead of this node's clock
_MOST_AHEAD = 64  # slots; a block that is further ahead is dropped, and comes again by catching up
_MOST_OF_PEER = 8
_MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """How this node's clock stands to its peers'. `offset_seconds`: by how much theirs are ahead, the median."""

    offset_seconds: float | None
    peers: int
    warning: str | None


def compare(offsets: Sequence[float], slot_seconds: float) -> ClockStatus:
    """The status for peers whose clocks are ahead by `offsets` seconds; a warning where it is more than a slot.

    Of an even number the median is the middle one that speaks for this node's clock.
    """
    if not offsets:
        return ClockStatus(None, 0, None)
    offset = min(median_low(offsets), median_high(offsets), key=abs)
    warning = None
    if abs(offset) > slot_seconds:
        side = "behind" if offset > 0 else "ahead of"
        warning = (
            f"this machine's clock is {abs(offset):.1f} s {side} the median of {len(offsets)} peers, and a slot lasts "
            f"{slot_seconds:g} s: blocks come too late or too early; set the clock (by NTP)"
        )
    return ClockStatus(round(offset, 3), len(offsets), warning)


class EarlyBlocks:
    """Blocks whose slot has not begun, with the peer that each came from. Bounded by slots, peer and bytes."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, tuple[Block, bytes | None]] = {}
        self._bytes = 0

    def put(self, block: Block, peer: bytes | None, slot: int) -> bool:
        """Keep a block at the clock's `slot`; returns whether there was room."""
        if block.id in self._blocks:
            return True
        of_peer = sum(sender == peer for _, sender in self._blocks.values())
        if (
            block.header.slot > slot + _MOST_AHEAD
            or of_peer >= _MOST_OF_PEER
            or self._bytes + len(block.raw) > _MOST_BYTES
        ):
            return False
        self._blocks[block.id] = block, peer
        self._bytes += len(block.raw)
        return True

    def due(self, slot: int) -> list[tuple[Block, bytes | None]]:
        """Take out what may be judged at the clock's `slot`, the lowest first."""
        due = [item for item in self._blocks.values() if item[0].header.slot <= slot + EARLY]
        for block, _ in due:
            del self._blocks[block.id]
            self._bytes -= len(block.raw)
        return sorted(due, key=lambda item: item[0].header.height)

    def __len__(self) -> int:
        return len(self._blocks)
