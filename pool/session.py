"""One member's connection to the pool: handshake, limits, and what each message leads to."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import WSMsgType, web

from chain.encoding import Record
from chain.errors import BadEncoding, Invalid
from chain.keys import PrivateKey, verify
from pool import messages
from pool.errors import NoLease, ShareRefused
from pool.heads import SignedHead
from pool.messages import (
    Announce,
    Hello,
    Join,
    LeaseDenied,
    LeaseGrant,
    LeaseLost,
    LeaseRequest,
    Problem,
    Progress,
    Release,
    ShareAccepted,
    ShareRejected,
    ShareUpload,
    Welcome,
)
from pool.pool import Accepted, Pool
from pool.records import SignedShare, WorkRecord, milliseconds

log = logging.getLogger(__name__)
HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 30.0
PENDING_SHARES = 4
FAULTS = 20
"""Breaches of a limit or unreadable messages after which a connection ends."""
COSTLY = frozenset({"wrong_score", "bad_model"})
COSTLY_FAULTS = 5
"""Shares that cost an evaluation and proved wrong, after which a connection ends."""


class Evaluator(Protocol):
    """What a session needs of its server."""

    pool: Pool
    key: PrivateKey
    clock: Callable[[], float]

    def head(self) -> SignedHead:
        """The ledger as it is, signed."""
        ...

    async def judge(self, signed: SignedShare, model: bytes) -> Accepted:
        """Measure the model and credit the share; raises ShareRefused, or Unavailable."""
        ...


class Unavailable(Exception):
    """The pool could not evaluate a share for a reason of its own; the member should send it again."""


class Dismissed(Exception):
    """The connection ends; the message tells the member why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(slots=True)
class Bucket:
    """Token bucket of one message type."""

    tokens: float
    at: float

    def take(self, limit: messages.Limit, now: float) -> bool:
        """Whether one more message is within the limit."""
        self.tokens = min(limit.burst, self.tokens + max(0.0, now - self.at) * limit.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Session:
    """See the module. `member` is an address, known after the handshake."""

    def __init__(self, server: Evaluator, socket: web.WebSocketResponse) -> None:
        self.member = b""
        self._server = server
        self._socket = socket
        self._key = b""
        self._worker = b""
        self._faults = self._costly = 0
        self._buckets: dict[type[Record], Bucket] = {}
        self._shares: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._handshake()
            await self.announce()
            while (message := await self._receive()) is not None:
                await self._serve(message)
        except TimeoutError:
            await self._say_goodbye("timeout", "the handshake took too long")
        except Dismissed as dismissed:
            await self._say_goodbye(dismissed.code, str(dismissed))
        except ConnectionError:
            pass  # the member is gone; its leases run out by silence
        finally:
            for task in self._shares:
                task.cancel()

    async def announce(self) -> None:
        """Tell the member what the work is now."""
        pool = self._server.pool
        works = (WorkRecord.of(pool.work),) if pool.work is not None and pool.leasing else ()
        await self.send(Announce(works))
        await self.send(self._server.head())

    async def send(self, message: Record) -> None:
        """Send a message; a member that does not read for long is cut off."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._socket.send_bytes(messages.encode(message))
        except (TimeoutError, ConnectionError, RuntimeError):
            await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close()

    async def _handshake(self) -> None:
        pool, key = self._server.pool, self._server.key
        network, most = pool.settings.network, pool.settings.max_model_bytes
        hello = Hello(messages.VERSION, network, key.public, secrets.token_bytes(32), most)
        await self.send(hello)
        join = await self._receive()
        if not isinstance(join, Join):
            raise Dismissed("no_join", "the first message must be Join")
        try:
            verify(join.member, join.signature, messages.join_digest(hello, join.member, join.nonce, join.worker))
            self.member = pool.join(join.member, join.worker, self._server.clock())
        except Invalid as error:
            raise Dismissed(error.code, str(error)) from error
        self._key, self._worker = join.member, join.worker
        log.info("member %s connected, %r", self.member.hex()[:12], join.agent)
        signature = key.sign(messages.welcome_digest(hello, join.member, join.nonce))
        await self.send(Welcome(signature, milliseconds(pool.settings.silence_seconds)))

    async def _receive(self) -> Record | None:
        """The next message; None when the connection has ended. Unreadable ones are counted and answered."""
        while True:
            frame = await self._socket.receive()
            if frame.type is not WSMsgType.BINARY:
                return None
            try:
                message = messages.decode(frame.data, self._server.pool.settings.max_model_bytes)
            except BadEncoding as error:
                await self._fault(error.code, str(error))
                continue
            if self._within_limit(message):
                return message
            kind = type(message)
            await self._fault("rate_limited", f"dropped: over {messages.LIMITS[kind].burst} {kind.__name__} at once")

    def _within_limit(self, message: Record) -> bool:
        kind, now = type(message), self._server.clock()
        bucket = self._buckets.setdefault(kind, Bucket(messages.LIMITS[kind].burst, now))
        return bucket.take(messages.LIMITS[kind], now)

    async def _fault(self, code: str, reason: str) -> None:
        self._faults += 1
        if self._faults >= FAULTS or not self.member:
            raise Dismissed(code, reason)
        await self.send(Problem(code, reason[:500]))

    async def _serve(self, message: Record) -> None:
        pool, now = self._server.pool, self._server.clock()
        if isinstance(message, LeaseRequest):
            await self.send(self._lease(message, now))
        elif isinstance(message, Progress):
            worker = self._worker + bytes([message.slot])
            if not pool.progress(self.member, worker, message.lease, message.step, now):
                await self.send(LeaseLost(message.lease))
        elif isinstance(message, Release):
            pool.release(self.member, message.lease, message.genotype)
        elif isinstance(message, ShareUpload):
            await self._take_share(message)
        else:
            await self._fault("unexpected", f"a member does not send {type(message).__name__}")

    def _lease(self, request: LeaseRequest, now: float) -> Record:
        pool = self._server.pool
        try:
            lease = pool.lease(self.member, self._worker + bytes([request.slot]), now, frozenset(request.trained))
        except NoLease as error:
            return LeaseDenied(request.slot, error.code, str(error)[:500], milliseconds(error.retry))
        work = pool.work
        if work is None:
            return LeaseDenied(request.slot, "no_work", "there is no search open now", 5000)
        deadline = milliseconds(lease.deadline)
        return LeaseGrant(request.slot, lease.id, work.epoch, work.task, lease.genotypes, deadline)

    async def _take_share(self, upload: ShareUpload) -> None:
        share = upload.signed.share
        if len(self._shares) >= PENDING_SHARES:
            reason = f"{PENDING_SHARES} shares of this connection wait already"
            await self.send(ShareRejected(share.id, "busy", reason, True))
            return
        try:
            known = self._server.pool.check_share(self._key, upload.signed, upload.model, self._server.clock())
        except ShareRefused as refused:
            await self.send(ShareRejected(share.id, refused.code, str(refused)[:500], False))
            return
        if known is not None:
            await self.send(ShareAccepted(share.id, known.points))
            return
        task = asyncio.create_task(self._judge(upload))
        self._shares.add(task)
        task.add_done_callback(self._shares.discard)

    async def _judge(self, upload: ShareUpload) -> None:
        share = upload.signed.share
        try:
            accepted = await self._server.judge(upload.signed, upload.model)
        except ShareRefused as refused:
            await self.send(ShareRejected(share.id, refused.code, str(refused)[:500], False))
            if refused.code in COSTLY:
                await self._count_costly()
        except Unavailable as error:
            await self.send(ShareRejected(share.id, "unavailable", str(error)[:500], True))
        else:
            await self.send(ShareAccepted(share.id, accepted.points))
            await self.send(self._server.head())

    async def _count_costly(self) -> None:
        self._costly += 1
        if self._costly >= COSTLY_FAULTS:
            await self._say_goodbye("too_many_bad_shares", f"{self._costly} shares were wrong; connect again later")

    async def _say_goodbye(self, code: str, reason: str) -> None:
        if not self._socket.closed:
            await self.send(Problem(code, reason[:500]))
            await self.close()
