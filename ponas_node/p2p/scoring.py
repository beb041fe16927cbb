"""Points for misbehaviour, and bans. No I/O, no clock."""

from __future__ import annotations

from chain.cache import Cache

LIMIT = 100.0
FADE = 0.5  # points that fade per second
REMEMBERED = 4096

POINTS: dict[str, float] = {
    "malformed": 100,  # bytes that no version of this software sends
    "oversized": 100,
    "out_of_place": 100,  # a handshake message after the handshake, or the reverse
    "bad_handshake": 34,
    "invalid_block": 100,  # announced only by who accepted it
    "invalid_transaction": 25,
    "bad_artifact": 100,  # hashes or chunks that do not lead to the id
    "bad_batch": 100,
    "false_tip": 20,  # claims a height, and has no blocks for it
    "unsolicited": 20,
    "unknown_type": 10,
    "bad_address": 5,
    "stalled": 5,
    "not_delivered": 1,  # announced, requested, not delivered
    "flood": 1,  # per second that a frame had to wait
}


class Standing:
    """Scores and bans by name: a node key, or a host. Scores outlive a connection, so leaving does not clear them."""

    def __init__(self, ban_seconds: float) -> None:
        self._ban_seconds = ban_seconds
        self._scores: Cache[bytes | str, tuple[float, float]] = Cache(REMEMBERED)
        self._bans: Cache[bytes | str, tuple[float, str]] = Cache(REMEMBERED)

    def score(self, name: bytes | str, now: float) -> float:
        """Points of `name` now."""
        points, at = self._scores.get(name) or (0.0, now)
        return max(0.0, points - FADE * (now - at))

    def add(self, name: bytes | str, points: float, now: float) -> bool:
        """Add points; returns whether `name` has used up its credit."""
        score = self.score(name, now) + points
        self._scores.put(name, (score, now))
        return score >= LIMIT

    def ban(self, name: bytes | str, reason: str, now: float) -> None:
        """Ban `name`; its points start anew afterwards."""
        self._bans.put(name, (now + self._ban_seconds, reason))
        self._scores.put(name, (0.0, now))

    def banned(self, name: bytes | str, now: float) -> tuple[float, str] | None:
        """Seconds left and reason where `name` is banned."""
        until, reason = self._bans.get(name) or (now, "")
        return (until - now, reason) if until > now else None
