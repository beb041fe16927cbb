"""The one table of sizes and rates, and the token bucket that keeps them. Time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from chain.encoding import Record
from chain.types import MAX_BLOCK, MAX_BODY, Block, Transaction
from ponas_node.p2p import messages as m


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` bytes of payload; `rate` frames per second in the long run, `burst` at once.

    Without a rate: comes only when asked for, so that our own asking sets the pace, and otherwise costs points.
    """

    most: int
    rate: float | None = None
    burst: float = 0


LIMITS: dict[type[Record], Limit] = {
    m.Hello: Limit(512),  # once; the handshake sees to it
    m.Auth: Limit(128),
    m.Goodbye: Limit(1200),
    m.Ping: Limit(16, 1, 10),
    m.Pong: Limit(16),
    m.Tip: Limit(64, 20, 200),
    m.Announce: Limit(8192, 40, 400),
    m.Request: Limit(8192, 40, 400),
    m.NotFound: Limit(8192),
    Transaction: Limit(MAX_BODY + 256),
    Block: Limit(MAX_BLOCK),
    m.GetPending: Limit(16, 0.2, 5),
    m.GetBlocks: Limit(8192, 8, 32),
    m.Blocks: Limit(MAX_BLOCK + 4096),
    m.GetArtifact: Limit(64, 10, 100),
    m.ArtifactInfo: Limit(32 * m.MAX_CHUNKS + 64),
    m.GetChunk: Limit(64, 1000, 2000),
    m.Chunk: Limit(70000),
    m.GetPeers: Limit(16, 0.2, 5),
    m.Peers: Limit(8192),
    m.GetHeaders: Limit(8192, 8, 32),
    m.Headers: Limit(384 * m.MAX_HEADERS),
}
UNKNOWN = Limit(1024, 1, 5)
MAX_FRAME = 1 + max(limit.most for limit in LIMITS.values())


class TokenBucket:
    """Tokens flow in at `rate` per second up to `burst`. A taker may overdraw and is told how long it has to wait."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, cost: float, now: float) -> float:
        """Take `cost` tokens; returns the seconds to wait before the balance is no longer negative."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate) - cost
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class Meter:
    """The buckets of one peer."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[type[Record] | None, TokenBucket] = {}

    def take(self, kind: type[Record] | None, now: float) -> float:
        """Count a frame; `kind` is None for an unknown type. Returns the seconds to wait."""
        limit = UNKNOWN if kind is None else LIMITS[kind]
        if limit.rate is None:
            return 0.0
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(limit.rate, limit.burst, now)
        return bucket.take(1, now)
