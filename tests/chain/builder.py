"""Blocks on any parent, made without a store: states are plain dictionaries, roots are built from nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from chain.chain import make_genesis
from chain.hashing import EMPTY, digest
from chain.ledger import draft_block
from chain.rules import BlockContext
from chain.types import VERSION, Block, Header, Transaction, transactions_root
from tests.chain.rules import MINTERS, NETWORK, SEATS, TestRules


class DictState:
    """A state view of a dictionary."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)


def naive_root(state: dict[bytes, bytes]) -> bytes:
    """The root by its definition, straight from the content."""
    leaves = [hashlib.sha256(key).digest() + hashlib.sha256(value).digest() for key, value in state.items()]

    def node(below: list[bytes], depth: int) -> bytes:
        kinds, held = 0, b""
        for digit in range(16):
            slot = [leaf for leaf in below if leaf.hex()[depth] == f"{digit:x}"]
            if len(slot) == 1:
                kinds += 3 * 4**digit
                held += slot[0]
            elif slot:
                kinds += 4**digit
                held += node(slot, depth + 1)
        return digest("ponas/state-node", kinds.to_bytes(4, "big") + held)

    return node(leaves, 0) if leaves else EMPTY


class Builder:
    """Knows the state after every block it made."""

    def __init__(self, rules: TestRules) -> None:
        self.rules = rules
        self.genesis, changes, _ = make_genesis(rules)
        self.states: dict[bytes, dict[bytes, bytes]] = {self.genesis.id: _applied({}, changes)}

    def mint(self, parent: Header, slot: int, transactions: list[Transaction], **changes: Any) -> Block:
        """A signed block on `parent`; `changes` replace fields of the header before it is signed."""
        seat = slot % 2
        context = BlockContext(parent.height + 1, slot, parent.id, SEATS[seat])
        state = self.states[parent.id]
        draft = draft_block(self.rules, DictState(state), context, transactions, 90_000)
        after = _applied(state, draft.state.changes)
        root = transactions_root(draft.transactions)
        header = Header(
            VERSION,
            context.height,
            slot,
            parent.id,
            root,
            naive_root(after),
            SEATS[seat],
            MINTERS[seat].public,
            bytes(64),
        )
        block = Block(dataclasses.replace(header, **changes).signed(MINTERS[seat], NETWORK), draft.transactions)
        self.states[block.id] = after
        return block

    def forget(self, keep: set[bytes]) -> None:
        """Drop all states but those of `keep`."""
        self.states = {block_id: state for block_id, state in self.states.items() if block_id in keep}


def remint(block: Block, transactions: tuple[Transaction, ...], **changes: Any) -> Block:
    """`block` with other transactions or header fields, its transactions root and signature made to fit."""
    root = transactions_root(transactions)
    header = dataclasses.replace(block.header, **{"transactions_root": root, **changes})
    return Block(header.signed(MINTERS[header.slot % 2], NETWORK), transactions)


def _applied(state: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    after = dict(state)
    for key, value in changes.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after
