"""Members of a pool in great number: each a WebSocket of its own, spoken by hand so that thousands fit one process."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field

from chain.artifact import artifact_id
from chain.encoding import Record
from chain.hashing import digest
from chain.keys import PrivateKey
from pool import messages
from pool.messages import (
    Announce,
    Hello,
    Join,
    LeaseDenied,
    LeaseGrant,
    LeaseRequest,
    Problem,
    SealedUpload,
    ShareAccepted,
    ShareRejected,
    ShareUpload,
)
from pool.records import Share, sign_share
from pool.sealing import UploadKey, seal
from pool.server import PATH
from pool.work import Work

_UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def score_of(genotype: bytes) -> int:
    """Stands in for the evaluation, on both sides."""
    return 50 + digest("bench-score", genotype)[0]


@dataclass(slots=True)
class Tally:
    """What all members saw. Times in seconds; the lists are latencies."""

    rest: float
    model_bytes: int
    joined: int = 0
    lost: int = 0
    accepted: int = 0
    denied: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    leases: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    stopped: bool = False

    def begin(self) -> None:
        """Count from now on."""
        self.accepted = 0
        self.leases.clear()
        self.shares.clear()


class Member(asyncio.Protocol):
    """One connection: leases, rests where it would train, sends what it leased, and leases again."""

    __slots__ = (
        "_buffer", "_hello", "_key", "_nonce", "_open", "_opened", "_secret", "_sent", "_tally", "_transport",
        "_upload_key", "_uploads", "_work", "loop",
    )  # fmt: skip

    def __init__(self, number: int, tally: Tally, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._key = PrivateKey(digest("bench-member", number.to_bytes(4, "big")))
        self._tally = tally
        self._buffer = bytearray()
        self._opened = False
        self._nonce = digest("bench-nonce", number.to_bytes(4, "big"))
        self._secret = digest("bench-upload-key", number.to_bytes(4, "big"))
        self._upload_key = UploadKey(self._secret)
        self._uploads = 0
        self._open: dict[bytes, float] = {}
        self._sent = 0.0
        self._work: Work | None = None
        self._hello: Hello | None = None
        self._transport: asyncio.Transport | None = None

    def itself(self) -> Member:
        """For `create_connection`."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            transport.write(_UPGRADE)

    def connection_lost(self, error: Exception | None) -> None:
        """Count it."""
        if not self._tally.stopped:
            self._tally.lost += 1

    def data_received(self, data: bytes) -> None:
        """Take whole frames off the stream."""
        buffer = self._buffer
        buffer += data
        if not self._opened:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(bytes(buffer[:200]).decode())
            del buffer[: end + 4]
            self._opened = True
        while len(buffer) >= 2:
            size, head = buffer[1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                if len(buffer) < head:
                    return
                size = int.from_bytes(buffer[2:head], "big")
            if len(buffer) < head + size:
                return
            kind, payload = buffer[0] & 15, bytes(buffer[head : head + size])
            del buffer[: head + size]
            if kind == 2:
                self._take(messages.decode(payload, 0))
            elif kind == 9:
                self._write(10, payload)

    def ask(self) -> None:
        """Ask for a lease."""
        if not self._tally.stopped:
            self._sent = time.perf_counter()
            self._send(LeaseRequest(0, ()))

    def _write(self, kind: int, payload: bytes) -> None:
        """A frame, masked with zeros."""
        if self._transport is None or self._transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 128 | kind, 128 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 128 | kind, 128 | 126, size)
        else:
            head = struct.pack(">BBQ", 128 | kind, 128 | 127, size)
        self._transport.write(head + bytes(4) + payload)

    def _send(self, message: Record) -> None:
        self._write(2, messages.encode(message))

    def _take(self, message: Record) -> None:
        tally = self._tally
        if isinstance(message, Hello):
            self._hello = message
            sealed = seal(self._secret, message.sealing, messages.key_info(message, self._key.public, self._nonce))
            signature = self._key.sign(messages.join_digest(message, self._key.public, self._nonce, sealed, b"w"))
            self._send(Join(self._key.public, self._nonce, sealed, b"w", "bench", signature))
        elif isinstance(message, Announce):
            self._work = message.works[0].work
            tally.joined += 1
        elif isinstance(message, LeaseGrant):
            tally.leases.append(time.perf_counter() - self._sent)
            for place, genotype in enumerate(message.genotypes, start=1):
                self.loop.call_later(tally.rest * place / len(message.genotypes), self._finish, message, genotype)
        elif isinstance(message, LeaseDenied):
            tally.denied[message.code] = tally.denied.get(message.code, 0) + 1
            self.loop.call_later(message.retry / 1000, self.ask)
        elif isinstance(message, ShareAccepted):
            tally.accepted += 1
            self._answered(message.share)
        elif isinstance(message, ShareRejected):
            tally.rejected[message.code] = tally.rejected.get(message.code, 0) + 1
            self._answered(message.share)
        elif isinstance(message, Problem):
            raise RuntimeError(f"{message.reason} ({message.code})")

    def _finish(self, lease: LeaseGrant, genotype: bytes) -> None:
        """The rest is over: make a share, seal it and send it."""
        if self._hello is None or self._work is None:
            raise RuntimeError("no handshake")
        spec, network = self._work.spec, self._hello.network
        model = genotype.ljust(self._tally.model_bytes, b"\0")
        leaves = (*(digest("bench-leaf", genotype, bytes([i])) for i in range(spec.segments + 1)), artifact_id(model))
        share = Share(
            network, lease.epoch, lease.task, lease.lease, genotype, leaves,
            score_of(genotype), len(model), self._key.public,
        )  # fmt: skip
        upload = ShareUpload(sign_share(share, self._key), model)
        self._uploads += 1
        if genotype == lease.genotypes[-1]:
            self._open[b""] = 0.0
        self._open[share.id] = time.perf_counter()
        sealed = self._upload_key.seal(upload.encode(), self._uploads, messages.SHARE)
        self._send(SealedUpload(self._uploads, sealed))

    def _answered(self, share: bytes) -> None:
        self._tally.shares.append(time.perf_counter() - self._open.pop(share))
        if list(self._open) == [b""]:  # the last share of the lease was sent, and all are answered
            self._open.clear()
            self.ask()
