"""Settings of the network. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Where to listen, whom to call, and how long to wait. `peers` are "host:port" and are redialled forever."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    peers: tuple[str, ...] = ()
    max_peers: int = 32
    advertise: str | None = None  # "host:port" that others should dial; None: the port, at the address they see
    agent: str = "ponas-node/0.1.0"
    learned_peers: int = 4  # addresses learned from peers that are dialled at a time

    dial_timeout: float = 10
    handshake_timeout: float = 10
    close_timeout: float = 2
    ping_every: float = 20
    ping_timeout: float = 20
    send_timeout: float = 20
    send_queue_frames: int = 2048
    send_queue_bytes: int = 8 << 20
    item_timeout: float = 5  # a requested transaction or block
    request_timeout: float = 10  # a chunk, an artifact's hashes
    batch_timeout: float = 20  # a batch of blocks

    backoff_first: float = 0.5
    backoff_most: float = 60
    stable_after: float = 30  # a connection that lasted so long starts the backoff anew
    ban_seconds: float = 600

    tick: float = 0.1  # how often announcements are flushed and deadlines looked at
    sync_grace: float = 1.0  # a peer may be ahead so long before catch-up starts: its block may be on the way
    sync_retry: float = 10  # a peer that catch-up failed with is left alone so long
    sync_patience: tuple[float, ...] = (0.25, 0.5, 1, 2, 4, 8)  # waits between tries of a block not judged yet
