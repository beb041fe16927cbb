"""What a pool and its members say about states of trainings under way. Limits are in `pool/messages.py`.

States travel in parts, each sealed for its place, and each answered before the next one: in `SealedState` to the pool,
in `StateGrant` to a member, to a key of the member's own that it signed for the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from chain.encoding import U32, U64, Hash, PublicKey, Record, Signature, Size
from consensus.types import Genotype
from pool.records import Code, FirstLeaves, Reason, SignedCheckpoint
from pool.sealing import OVERHEAD, TAG

if TYPE_CHECKING:
    from pool.messages import Hello

PART = 256 << 10
"""Bytes of a state in one message."""
MORE = 16 << 10
"""Bytes of such a message beyond those."""
STATE = b"ponas/pool-state-upload"
"""What a part of a state is sealed as on its way to the pool."""


@dataclass(frozen=True, slots=True)
class Resume(Record):
    """A training to go on from: its first leaves, and the size of its state. `own`: this member uploaded it."""

    genotype: Genotype
    leaves: FirstLeaves
    state_bytes: U32
    own: bool


@dataclass(frozen=True, slots=True)
class StatePart(Record):
    """Bytes of a checkpoint's state from `offset` on; travels in a SealedState."""

    signed: SignedCheckpoint
    offset: U32
    data: Annotated[bytes, Size(1, PART)]


@dataclass(frozen=True, slots=True)
class SealedState(Record):
    """Member: a StatePart, sealed as `STATE`; `number` is one of the connection's uploads, as of shares."""

    number: U64
    sealed: Annotated[bytes, Size(TAG, PART + MORE)]


@dataclass(frozen=True, slots=True)
class StateTaken(Record):
    """Pool: the first `have` bytes of a state are here; it is `kept` once all are, and durable then."""

    checkpoint: Hash
    have: U32
    kept: bool


@dataclass(frozen=True, slots=True)
class StateRejected(Record):
    """Pool: it does not keep this state."""

    checkpoint: Hash
    code: Code
    reason: Reason


@dataclass(frozen=True, slots=True)
class StateRequest(Record):
    """Member: a part of the state that its lease was offered, sealed to `key`; signed with `request_digest`."""

    lease: U64
    genotype: Genotype
    offset: U32
    key: PublicKey
    signature: Signature


@dataclass(frozen=True, slots=True)
class StateGrant(Record):
    """Pool: the part that was asked for, sealed with `grant_info`."""

    lease: U64
    genotype: Genotype
    offset: U32
    sealed: Annotated[bytes, Size(OVERHEAD, PART + MORE)]


@dataclass(frozen=True, slots=True)
class StateDenied(Record):
    """Pool: there is no such state for this lease now."""

    lease: U64
    genotype: Genotype
    code: Code
    reason: Reason


def request_digest(hello: Hello, member: bytes, nonce: bytes, lease: int, genotype: bytes, key: bytes) -> bytes:
    """What a member signs to have states sealed to `key`."""
    return hello.bound("ponas/pool-state-request", member, nonce, lease.to_bytes(8, "big"), genotype, key)


def grant_info(hello: Hello, member: bytes, nonce: bytes, lease: int, genotype: bytes, offset: int) -> bytes:
    """What a part that goes to a member belongs to."""
    place = lease.to_bytes(8, "big"), genotype, offset.to_bytes(4, "big")
    return hello.bound("ponas/pool-state-grant", member, nonce, *place)
