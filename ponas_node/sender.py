"""Sends the transactions that parts of a node make by themselves: each once, and anew where it got lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.encoding import Record
from chain.keys import PrivateKey
from chain.types import Kind, Transaction, sign_transaction

if TYPE_CHECKING:
    from ponas_node.node import Node


class Sender:
    """Signs and sends with one key. A transaction is known by its purpose, any bytes."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self._sent: dict[bytes, Transaction] = {}  # last one sent, by what it is for

    async def send(self, purpose: bytes, kind: Kind, body: Record) -> bool:
        """Send a transaction once; send it anew where it fell out of the mempool without reaching the chain.

        What was announced for a purpose is kept, whatever `body` is then. Answers whether it was sent. Raises Invalid.
        """
        node = self._node
        earlier = self._sent.get(purpose)
        if earlier is not None:
            if node.pending_transaction(earlier.id) is not None or node.chain.transaction(earlier.id) is not None:
                return False
            body = type(body).decode(earlier.body)
        nonce = node.next_nonce(self._key.address)
        size = len(sign_transaction(self._key, node.network, kind, nonce, 0, body).raw) + 16
        fee = size * node.genesis.ledger.fee_per_byte * 2
        transaction = sign_transaction(self._key, node.network, kind, nonce, fee, body)
        self._sent[purpose] = transaction
        await node.submit_transaction(transaction)
        return True
