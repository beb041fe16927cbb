"""The messages of the wire, and frames: one type byte and the canonical encoding. Limits stand in the annotations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from chain.artifact import CHUNK
from chain.encoding import U8, U32, U64, Hash, PublicKey, Record, Signature, Size
from chain.types import MAX_BLOCK, Block, Header, Transaction

VERSION = 3
MAX_IDS = 128  # in one Announce, Request or NotFound
MAX_LOCATOR = 128
MAX_BATCH_BLOCKS = 128
MAX_BATCH_BYTES = 512 << 10
MAX_HEADERS = 256  # in one Headers
MAX_CHUNKS = 16384  # of one artifact: 1 GiB
MAX_ADDRESSES = 64

Ids = Annotated[tuple[Hash, ...], Size(1, MAX_IDS)]


class Item(IntEnum):
    """What an id names."""

    TRANSACTION = 0
    BLOCK = 1


@dataclass(frozen=True, slots=True)
class Hello(Record):
    """First message of both sides.

    `listen` is "host:port", ":port", or empty where the node takes no connections. `base`: height at which the blocks
    that it can give begin, beside genesis; 0 where it has them all.
    """

    version: U32
    network: Hash
    genesis: Hash
    key: PublicKey
    nonce: Hash
    agent: Annotated[str, Size(0, 64)]
    listen: Annotated[str, Size(0, 72)]
    height: U64
    tip: Hash
    base: U64


@dataclass(frozen=True, slots=True)
class Auth(Record):
    """Proof that the sender of a Hello has its key."""

    signature: Signature


@dataclass(frozen=True, slots=True)
class Goodbye(Record):
    """Last message: why the connection ends."""

    code: Annotated[str, Size(0, 32)]
    reason: Annotated[str, Size(0, 256)]


@dataclass(frozen=True, slots=True)
class Ping(Record):
    """Asks for a Pong with the same number."""

    request: U32


@dataclass(frozen=True, slots=True)
class Pong(Record):
    """Reply to Ping. `time`: Unix time of the sender's clock, in milliseconds."""

    request: U32
    time: U64


@dataclass(frozen=True, slots=True)
class Tip(Record):
    """The sender's tip has changed."""

    height: U64
    id: Hash


@dataclass(frozen=True, slots=True)
class Announce(Record):
    """The sender has these items."""

    kind: U8
    ids: Ids


@dataclass(frozen=True, slots=True)
class Request(Record):
    """Asks for items that the receiver announced."""

    kind: U8
    ids: Ids


@dataclass(frozen=True, slots=True)
class NotFound(Record):
    """Reply to Request: the sender no longer has these."""

    kind: U8
    ids: Ids


@dataclass(frozen=True, slots=True)
class GetPending(Record):
    """Asks for announcements of all pending transactions."""


@dataclass(frozen=True, slots=True)
class GetBlocks(Record):
    """Asks for the blocks that follow the first id of `locator` on the receiver's best chain."""

    request: U32
    locator: Annotated[tuple[Hash, ...], Size(1, MAX_LOCATOR)]


@dataclass(frozen=True, slots=True)
class Blocks(Record):
    """Reply to GetBlocks: canonical blocks, oldest first; none where the asker is level."""

    request: U32
    blocks: Annotated[tuple[Annotated[bytes, Size(1, MAX_BLOCK)], ...], Size(0, MAX_BATCH_BLOCKS)]


@dataclass(frozen=True, slots=True)
class GetArtifact(Record):
    """Asks for the chunk hashes of an artifact."""

    request: U32
    id: Hash


@dataclass(frozen=True, slots=True)
class ArtifactInfo(Record):
    """Reply to GetArtifact: 32 bytes of SHA-256 per chunk; no hashes where the sender does not have it."""

    request: U32
    size: U64
    hashes: Annotated[bytes, Size(0, 32 * MAX_CHUNKS)]


@dataclass(frozen=True, slots=True)
class GetChunk(Record):
    """Asks for one chunk of an artifact."""

    request: U32
    id: Hash
    index: U32


@dataclass(frozen=True, slots=True)
class Chunk(Record):
    """Reply to GetChunk; `found` is false where the sender does not have it."""

    request: U32
    found: bool
    data: Annotated[bytes, Size(0, CHUNK)]


@dataclass(frozen=True, slots=True)
class GetPeers(Record):
    """Asks for addresses of other nodes."""

    request: U32


@dataclass(frozen=True, slots=True)
class Peers(Record):
    """Reply to GetPeers: "host:port" each."""

    request: U32
    addresses: Annotated[tuple[Annotated[str, Size(1, 72)], ...], Size(0, MAX_ADDRESSES)]


@dataclass(frozen=True, slots=True)
class GetHeaders(Record):
    """Asks for at most `most` headers that follow the first id of `locator` on the receiver's best chain."""

    request: U32
    most: U32
    locator: Annotated[tuple[Hash, ...], Size(1, MAX_LOCATOR)]


@dataclass(frozen=True, slots=True)
class Headers(Record):
    """Reply to GetHeaders: oldest first."""

    request: U32
    headers: Annotated[tuple[Header, ...], Size(0, MAX_HEADERS)]


Reply = Pong | Blocks | ArtifactInfo | Chunk | Peers | Headers

TYPES: dict[int, type[Record]] = {
    1: Hello,
    2: Auth,
    3: Goodbye,
    4: Ping,
    5: Pong,
    6: Tip,
    7: Announce,
    8: Request,
    9: NotFound,
    10: Transaction,
    11: Block,
    12: GetPending,
    13: GetBlocks,
    14: Blocks,
    15: GetArtifact,
    16: ArtifactInfo,
    17: GetChunk,
    18: Chunk,
    19: GetPeers,
    20: Peers,
    21: GetHeaders,
    22: Headers,
}
NUMBERS: dict[type[Record], int] = {cls: number for number, cls in TYPES.items()}


def frame(message: Record) -> bytes:
    """The frame that carries `message`."""
    if isinstance(message, Transaction | Block):
        return bytes([NUMBERS[type(message)]]) + message.raw
    return bytes([NUMBERS[type(message)]]) + message.encode()
