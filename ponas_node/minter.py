"""Mints blocks in the slots that belong to the node's key, never two for one slot, not even across a crash."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from chain.deadline import Deadline
from chain.errors import Invalid
from chain.keys import PrivateKey
from chain.types import Block
from consensus import records

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_LAST_SLOT = b"last-minted-slot"
WAIT = 0.15  # part of a slot to wait for the block of the one before
_CHOOSING = 0.15  # part of a slot to spend on choosing transactions


class Minter:
    """Mints for one key on one node."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self._store = node.store.namespace(b"minter")
        self.minted = 0

    async def run(self) -> None:
        """Mint for ever."""
        parameters = self._node.genesis.consensus
        while True:
            slot = max(1, self._node.slot() + 1)
            await asyncio.sleep(max(0.0, parameters.time_of(slot) - self._node.now()))
            if self._node.chain.tip.slot != slot - 1:
                await asyncio.sleep(parameters.slot_milliseconds / 1000 * WAIT)
            try:
                await self._mint(slot)
            except Invalid as error:
                log.warning("slot %d: could not mint: %s", slot, error)

    def seat_for(self, slot: int) -> bytes | None:
        """The seat with which this key may mint at `slot` on the present tip, or None."""
        chain, rules = self._node.chain, self._node.rules
        seat = rules.leader(chain.state, chain.tip, slot)
        holder = records.seat_holder(chain.state, seat)
        return seat if holder is not None and holder[0] == self._key.public else None

    async def _mint(self, slot: int) -> None:
        chain = self._node.chain
        if slot <= chain.tip.slot or slot <= self._last_slot() or self._node.sync_status()["syncing"]:
            return
        seat = self.seat_for(slot)
        if seat is None:
            return
        seconds = self._node.genesis.consensus.slot_milliseconds / 1000 * _CHOOSING
        deadline = Deadline(time.monotonic, time.monotonic() + seconds)
        header, transactions = chain.draft(slot, seat, self._key.public, self._node.mempool.best_first(), deadline)
        self._store.put(_LAST_SLOT, slot.to_bytes(8, "big"))  # before signing: a crash must not lead to a second block
        block = Block(header.signed(self._key, self._node.network), transactions)
        await self._node.submit_block(block)
        self.minted += 1

    def _last_slot(self) -> int:
        return int.from_bytes(self._store.get(_LAST_SLOT) or b"", "big")
