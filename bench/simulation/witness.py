"""Keeps headers, and finds two of one key for one slot, as `ponas_node.witness` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.errors import NotApplicable
from chain.types import Header
from consensus.evidence import find_offence
from consensus.types import EvidenceBody

if TYPE_CHECKING:
    from bench.simulation.node import Node


class Witness:
    """Watches the headers that a node sees. Evidence survives a crash; headers are taken from the chain again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen: dict[tuple[int, bytes], Header] = {}  # by slot and minter
        self._kept: dict[tuple[bytes, int], EvidenceBody] = {}  # by accused seat and slot

    def start(self) -> None:
        """Take the headers of the chain."""
        self._seen.clear()
        header: Header | None = self._node.chain.tip
        while header is not None and header.height and header.slot > self._oldest():
            self.see(header)
            header = self._node.chain.header(header.parent)

    def see(self, header: Header) -> None:
        """A header whose signature was checked."""
        earlier = self._seen.setdefault((header.slot, header.minter), header)
        if earlier.id != header.id:
            self._kept.setdefault((earlier.seat, earlier.slot), EvidenceBody(earlier, header))
            self._kept.setdefault((header.seat, header.slot), EvidenceBody(header, earlier))

    def evidence(self) -> list[EvidenceBody]:
        """What counts in the next block."""
        chain, parameters, found = self._node.chain, self._node.rules.consensus, []
        oldest = self._oldest()
        self._seen = {place: header for place, header in self._seen.items() if place[0] > oldest}
        oldest -= self._node.rules.parameters.max_rollback  # before that no branch counts any more
        self._kept = {place: body for place, body in self._kept.items() if place[1] > oldest}
        for body in self._kept.values():
            try:
                find_offence(chain.state, parameters, body, chain.tip.slot + 1)
            except NotApplicable:
                continue
            found.append(body)
        return found

    def _oldest(self) -> int:
        """Last slot of which no evidence counts in the next block."""
        return self._node.chain.tip.slot + 1 - self._node.rules.consensus.challenge_blocks
