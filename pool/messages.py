"""What a pool and its members say to each other: one type byte, then a canonical record. One table holds all limits.

A connection begins with Hello (pool), Join (member), Welcome (pool); both sides sign what the other one drew. Shares
travel sealed, with a key that Join brings for this connection and each for its place in it, so that no recorded message
is of any use later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from chain.encoding import U8, U32, U64, Hash, PublicKey, Range, Record, Signature, Size
from chain.errors import BadEncoding
from chain.hashing import digest
from consensus.types import Genotype
from pool.heads import SignedHead
from pool.records import Code, Genotypes, Points, Reason, SignedShare, WorkRecord
from pool.sealing import KEY, OVERHEAD, TAG
from pool.state_messages import (
    MORE,
    PART,
    Resume,
    SealedState,
    StateDenied,
    StateGrant,
    StateRejected,
    StateRequest,
    StateTaken,
)

VERSION = 4
LARGEST_MODEL = 1 << 28
MOST_RESUMES = 8
UPLOAD = 16 << 10
"""Bytes of an upload beyond its model."""
SHARE = b"ponas/pool-upload"
"""What a share's upload is sealed as."""


@dataclass(frozen=True, slots=True)
class Hello(Record):
    """Pool: who it is, on which network, the X25519 key to seal to, and a number that the member must sign.

    With `max_state_bytes` 0 it takes no states of trainings.
    """

    version: U8
    network: Hash
    pool: PublicKey
    sealing: PublicKey
    nonce: Hash
    max_model_bytes: U32
    max_state_bytes: U32

    def bound(self, domain: str, member: bytes, nonce: bytes, *what: bytes) -> bytes:
        """A digest of `what` that only the connection of this Hello has, with the public key and nonce that joined."""
        return digest(domain, self.network, self.pool, self.sealing, self.nonce, member, nonce, *what)


@dataclass(frozen=True, slots=True)
class Join(Record):
    """Member: its key, a name for this machine, and the signature over `join_digest`.

    `sealed_key` is the key of its uploads in this connection, sealed to the pool with `key_info`.
    """

    member: PublicKey
    nonce: Hash
    sealed_key: Annotated[bytes, Size(KEY + OVERHEAD, KEY + OVERHEAD)]
    worker: Annotated[bytes, Size(1, 16)]
    agent: Annotated[str, Size(0, 64)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Welcome(Record):
    """Pool: the signature over `welcome_digest`, and after how many milliseconds of silence a lease is lost."""

    signature: Signature
    silence: Annotated[int, Range(1, 1 << 31)]


@dataclass(frozen=True, slots=True)
class Announce(Record):
    """Pool: the work now; empty where there is none."""

    works: Annotated[tuple[WorkRecord, ...], Size(0, 1)]


@dataclass(frozen=True, slots=True)
class LeaseRequest(Record):
    """Member: work for one of its slots. The shares of `trained` are on their way."""

    slot: U8
    trained: Genotypes


@dataclass(frozen=True, slots=True)
class LeaseGrant(Record):
    """Pool: train these, some of them from a state on. `deadline` is Unix time in milliseconds."""

    slot: U8
    lease: U64
    epoch: U64
    task: Hash
    genotypes: Genotypes
    deadline: U64
    resumes: Annotated[tuple[Resume, ...], Size(0, MOST_RESUMES)]


@dataclass(frozen=True, slots=True)
class LeaseDenied(Record):
    """Pool: no lease now; ask again after `retry` milliseconds."""

    slot: U8
    code: Code
    reason: Reason
    retry: U32


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """Member: `step` steps done in a lease, over all its genotypes."""

    slot: U8
    lease: U64
    step: U64


@dataclass(frozen=True, slots=True)
class LeaseLost(Record):
    """Pool: the lease went to someone else; what has not been started should not be."""

    lease: U64


@dataclass(frozen=True, slots=True)
class Release(Record):
    """Member: it cannot train this one."""

    lease: U64
    genotype: Genotype


@dataclass(frozen=True, slots=True)
class ShareUpload(Record):
    """A share and its model; travels in a SealedUpload."""

    signed: SignedShare
    model: Annotated[bytes, Size(1, LARGEST_MODEL)]


@dataclass(frozen=True, slots=True)
class SealedUpload(Record):
    """Member: a ShareUpload, sealed as `SHARE`; `number` grows from one upload of a connection to the next."""

    number: U64
    sealed: Annotated[bytes, Size(TAG, LARGEST_MODEL + 2 * UPLOAD)]


@dataclass(frozen=True, slots=True)
class ShareAccepted(Record):
    """Pool: the share is in the ledger, durably, and so in that of this head."""

    share: Hash
    points: Points
    head: SignedHead


@dataclass(frozen=True, slots=True)
class ShareRejected(Record):
    """Pool: the share is not accepted; with `retry` it may be sent again later."""

    share: Hash
    code: Code
    reason: Reason
    retry: bool


@dataclass(frozen=True, slots=True)
class Problem(Record):
    """Pool: something the member should know, often before the connection is closed."""

    code: Code
    reason: Reason


@dataclass(frozen=True, slots=True)
class StandingRequest(Record):
    """Member: where does it stand? For its screen."""


@dataclass(frozen=True, slots=True)
class Standing(Record):
    """Pool: the member's place in the next payout table (from 1; 0 for none) among so many members with points.

    `points` are those that no table carries yet, `total` those of all members.
    """

    place: U32
    members: U32
    points: Points
    total: Points


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes of one message (beyond the model, in an upload); messages a second, and how many at once."""

    size: int
    rate: float
    burst: int


SMALL = 1 << 10
LIMITS: dict[type[Record], Limit] = {
    Hello: Limit(SMALL, 1, 1),
    Join: Limit(SMALL, 1, 1),
    Welcome: Limit(SMALL, 1, 1),
    Announce: Limit(SMALL, 10, 20),
    LeaseRequest: Limit(128 << 10, 16, 256),
    LeaseGrant: Limit(256 << 10, 100, 100),
    LeaseDenied: Limit(4 * SMALL, 100, 100),
    Progress: Limit(SMALL, 64, 512),
    LeaseLost: Limit(SMALL, 100, 100),
    Release: Limit(SMALL, 2, 64),
    SealedUpload: Limit(UPLOAD, 8, 64),
    ShareAccepted: Limit(SMALL, 100, 100),
    ShareRejected: Limit(4 * SMALL, 100, 100),
    Problem: Limit(4 * SMALL, 100, 100),
    SignedHead: Limit(SMALL, 100, 100),
    StandingRequest: Limit(SMALL, 1, 8),
    Standing: Limit(SMALL, 100, 100),
    SealedState: Limit(PART + MORE + SMALL, 4, 64),
    StateTaken: Limit(SMALL, 100, 100),
    StateRejected: Limit(4 * SMALL, 100, 100),
    StateRequest: Limit(SMALL, 4, 64),
    StateGrant: Limit(PART + MORE + SMALL, 100, 100),
    StateDenied: Limit(4 * SMALL, 100, 100),
}
TYPES: tuple[type[Record], ...] = tuple(LIMITS)


def encode(message: Record) -> bytes:
    """A message as it travels."""
    return bytes([TYPES.index(type(message))]) + message.encode()


def decode(data: bytes, max_model_bytes: int) -> Record:
    """Parse a message. Raises BadEncoding where the type is unknown, or the bytes are too many or not canonical."""
    if not data or data[0] >= len(TYPES):
        raise BadEncoding("no message type of this protocol")
    kind = TYPES[data[0]]
    most = LIMITS[kind].size + (max_model_bytes if kind is SealedUpload else 0)
    if len(data) > most:
        raise BadEncoding(f"{kind.__name__}: {len(data)} bytes, the limit is {most}")
    return kind.decode(data[1:], most)


def largest(max_model_bytes: int) -> int:
    """Size of the largest message of this protocol."""
    return max(limit.size for limit in LIMITS.values()) + max_model_bytes


def join_digest(hello: Hello, member: bytes, nonce: bytes, sealed_key: bytes, worker: bytes) -> bytes:
    """What a member signs: it binds the member and its key for uploads to this pool, network and connection."""
    return hello.bound("ponas/pool-join", member, nonce, sealed_key, worker)


def welcome_digest(hello: Hello, member: bytes, nonce: bytes) -> bytes:
    """What the pool signs in return: the connection, and with it the key to seal to."""
    return hello.bound("ponas/pool-welcome", member, nonce)


def key_info(hello: Hello, member: bytes, nonce: bytes) -> bytes:
    """What the sealed key of a connection's uploads belongs to."""
    return hello.bound("ponas/pool-upload-key", member, nonce)
