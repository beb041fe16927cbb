"""Proofs of what the state holds, for whoever has a block's header and nothing else.

A header commits to the whole state (protocol L11). A proof names entries of the state, present or absent, each with its
path to the header's state root. `proven` checks it: it needs no database, no network and no rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from chain.encoding import Record, Size
from chain.state import StateView
from chain.tree import NodeReader, Proof, prove, verify_proof
from chain.types import Header

MAX_PROOF = 16 << 20  # bytes of an encoded proof
_MAX_VALUE = 4 << 20


class BadProof(ValueError):
    """A proof that does not show what it should; the message says why."""


@dataclass(frozen=True, slots=True)
class ProvenEntry(Record):
    """One key of the state. `value` holds one item, or none where the key is absent."""

    key: Annotated[bytes, Size(1, 256)]
    value: Annotated[tuple[Annotated[bytes, Size(0, _MAX_VALUE)], ...], Size(0, 1)]
    proof: Proof


@dataclass(frozen=True, slots=True)
class StateProof(Record):
    """Entries of the state after the block of `header`."""

    header: Header
    entries: Annotated[tuple[ProvenEntry, ...], Size(1, 16)]


def prove_state(header: Header, state: StateView, nodes: NodeReader, keys: Iterable[bytes]) -> StateProof:
    """The proof of what `state`, which is the one after `header`, holds at each of `keys`."""
    entries = []
    for key in keys:
        value = state.get(key)
        entries.append(ProvenEntry(key, () if value is None else (value,), prove(nodes, key)))
    return StateProof(header, tuple(entries))


class Proven:
    """What a proof has shown of a state. Serves as a StateView, but answers for proven keys only."""

    def __init__(self, entries: dict[bytes, bytes | None]) -> None:
        self._entries = entries

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, None where it was proven absent; raises BadProof where nothing was proven of it."""
        if key not in self._entries:
            raise BadProof(f"the proof says nothing about the key {key.hex()}")
        return self._entries[key]


def proven(proof: StateProof, block_id: bytes) -> Proven:
    """What `proof` shows of the state after the block `block_id`, which the caller trusts; raises BadProof."""
    header = proof.header
    if header.id != block_id:
        raise BadProof(f"the proof is of block {header.id.hex()}, not of {block_id.hex()}")
    entries: dict[bytes, bytes | None] = {}
    for entry in proof.entries:
        value = entry.value[0] if entry.value else None
        if entry.key in entries:
            raise BadProof("the proof names a key twice")
        if not verify_proof(header.state_root, entry.key, value, entry.proof):
            raise BadProof(f"the proof of key {entry.key.hex()} does not lead to the block's state root")
        entries[entry.key] = value
    return Proven(entries)
