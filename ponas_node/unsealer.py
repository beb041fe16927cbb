"""Shows the keys of sealed test splits when their competitions have closed their commits. Source: protocol C13."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chain.keys import PrivateKey
from chain.types import Kind
from consensus import records
from consensus.types import KeyBody
from ponas_node.sender import Sender
from ponas_node.split_keys import SplitKey
from ponas_node.ticking import twice_a_slot

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)


class Unsealer:
    """Shows each key as soon as the chain has a block with a slot at which commits are closed.

    Were it shown earlier, whoever mints the last block with commits could seal by what it opens. Half of the window
    over, it is shown in any case: without a key in time the deposit is lost.
    """

    def __init__(self, node: Node, key: PrivateKey, splits: Iterable[SplitKey]) -> None:
        self._node = node
        self._keys = {split.artifact: split.key for split in splits}
        self._sender = Sender(node, key)

    async def start(self) -> None:
        """Look at the chain from now on."""
        self._node.spawn(twice_a_slot(self._node.genesis.consensus, "key of a sealed test split", self.step))

    async def stop(self) -> None:
        """Nothing is left to end: the node ends what it spawned."""

    async def step(self) -> None:
        """Show the current epoch's key, where it is due and here."""
        node, parameters = self._node, self._node.genesis.consensus
        epoch = records.current_epoch(node.chain.state)
        key = self._keys.get(epoch.sealed)
        if key is None or epoch.key:
            return
        slot = max(node.slot(), node.chain.tip.slot + 1)  # of the next block, the first that could carry it
        opens, closes = (parameters.boundary_slot(epoch.number, sealed) for sealed in (False, True))
        settled = node.chain.tip.slot >= opens or 2 * slot >= opens + closes
        if not (opens <= slot < closes and settled):
            return
        if await self._sender.send(b"key" + epoch.sealed, Kind.KEY, KeyBody(epoch.number, key)):
            log.info("epoch %d: showed the key of its sealed test split", epoch.number)
