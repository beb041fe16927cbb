"""What the network tells the API about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer. Times are Unix seconds, ids hex.

    `latency`, and `clock_ahead` by which its clock is ahead of ours, are seconds, None before the first pong.
    """

    key: str
    address: str
    direction: str  # "in" or "out"
    agent: str
    height: int
    tip: str
    connected_since: float
    latency: float | None
    clock_ahead: float | None
    score: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that one side refused, or a peer that was dropped for misbehaviour."""

    address: str
    code: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How far catch-up is. `eta_seconds` is None where there is no estimate.

    `joining`: the node was away, and does not take the branch that it is on for that of the network yet.
    """

    syncing: bool
    height: int
    best_height: int
    blocks_per_second: float
    eta_seconds: float | None
    joining: bool
