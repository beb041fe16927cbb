"""What an honest miner does against cheats: it audits, watches headers, and files what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.auditor import Auditor
from bench.simulation.setting import watch_key
from bench.simulation.witness import Witness
from chain.encoding import Record
from chain.keys import PrivateKey
from chain.types import Kind, sign_transaction

if TYPE_CHECKING:
    from bench.simulation.node import Node


class Watch:
    """Watches for one node. With an account of its own it need not wait for the node's other transactions."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = watch_key(node.index)
        self.auditor = Auditor(node)
        self.witness = Witness(node)

    def step(self, slot: int) -> None:
        """Do what is due in `slot`, and file what counts in the next block, again until it is on the chain."""
        node = self._node
        if node.catch_up.syncing:
            return
        self.auditor.step(slot)
        challenges, evidence = self.auditor.challenges(), self.witness.evidence()
        for body in challenges:
            node.world.observer.justice.challenged(node, body.result)
        found: list[tuple[Kind, Record]] = [(Kind.EVIDENCE, body) for body in evidence]
        found += [(Kind.CHALLENGE, body) for body in challenges]
        nonce = node.nonce_of(self._key)
        for place, (kind, body_) in enumerate(found):
            accuse(node, self._key, nonce + place, kind, body_)


def accuse(node: Node, key: PrivateKey, nonce: int, kind: Kind, body: Record) -> None:
    """Send a challenge or evidence, signed with `key`."""
    fee = 2 * (len(body.encode()) + 160)
    node.send(sign_transaction(key, node.rules.network, kind, nonce, fee, body))
