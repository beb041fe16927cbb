"""Sends the beacon of each epoch, as `ponas_node.prover` does, but for the computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.oracle import delay_output
from chain.types import Kind, Transaction, sign_transaction
from consensus import records
from consensus.types import BeaconBody

if TYPE_CHECKING:
    from bench.simulation.node import Node

_TAKES = 1  # slots that the delay function takes


class Prover:
    """Proves for one node, `delay` slots after it could."""

    def __init__(self, node: Node, delay: int) -> None:
        self._node = node
        self._delay = delay
        self._sent: tuple[bytes, int, Transaction] | None = None

    def step(self, slot: int) -> None:
        """Do what is due at `slot`."""
        node, parameters = self._node, self._node.rules.consensus
        offset = parameters.offset(slot)
        if (
            not parameters.commit_close + _TAKES + self._delay
            < offset
            < parameters.reveal_open + parameters.beacon_grace
        ):
            return
        epoch = records.current_epoch(node.chain.state)
        if epoch.beacon or not epoch.boundary or epoch.number != parameters.epoch_of(slot):
            return
        nonce = node.nonce
        if self._sent is None or self._sent[:2] != (epoch.boundary, nonce):
            body = BeaconBody(epoch.number, delay_output(epoch.boundary))
            transaction = sign_transaction(node.signing, node.rules.network, Kind.BEACON, nonce, 0, body)
            self._sent = epoch.boundary, nonce, transaction
        node.send(self._sent[2])
