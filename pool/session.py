"""One member's connection to the pool: handshake, limits, and what each message leads to.

Nothing that was recorded is of use again: both sides of a handshake sign what the other one drew for this connection,
and an upload opens only in its connection and in its place. A share that is sent again is known by its lease, which is
never given twice, and by the ledger, which has one result of an architecture; both survive a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aiohttp import WSMsgType, web

from chain.encoding import Record
from chain.errors import BadEncoding, Invalid
from chain.keys import PrivateKey, verify
from pool import messages
from pool.errors import NoLease, ShareRefused, Unavailable
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
    SealedUpload,
    ShareAccepted,
    ShareRejected,
    ShareUpload,
    Standing,
    StandingRequest,
    Welcome,
)
from pool.pool import Accepted, Pool
from pool.records import SignedShare, WorkRecord, clip, milliseconds
from pool.sealing import BadSeal, SealingKey, UploadKey
from pool.state_messages import STATE, SealedState, StatePart, StateRequest
from pool.states import StateDesk

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R", bound=Record)
HANDSHAKE_SECONDS = 10.0
SEND_SECONDS = 30.0
PENDING_SHARES = 4
FAULTS = 20
"""Breaches of a limit or unreadable messages after which a connection ends."""
COSTLY = frozenset({"wrong_score", "bad_model"})
COSTLY_FAULTS = 5
"""Shares that cost an evaluation and proved wrong, after which a connection ends."""
COSTLY_SECONDS = 600
"""For so long after that, the member is not let in again; a restart of the pool does not change it."""
TOO_COSTLY = "too_many_bad_shares"


class Evaluator(Protocol):
    """What a session needs of its server."""

    pool: Pool
    key: PrivateKey
    sealing: SealingKey
    clock: Callable[[], float]
    states: StateDesk

    def head(self) -> SignedHead:
        """The ledger as it is, signed."""
        ...

    async def commit(self, change: Callable[[], T], urgent: bool = False) -> T:
        """Make a change of the pool, and return once it is durable; raises what it raises, or Unavailable."""
        ...

    def standing(self, member: bytes) -> Standing:
        """Where a member stands, as of a few seconds ago."""
        ...

    async def judge(self, signed: SignedShare, model: bytes) -> Accepted:
        """Measure the model and credit the share; raises ShareRefused, or Unavailable."""
        ...


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
    """See the module. `member` is an address, known after the handshake; `sending`: since when sends are under way."""

    def __init__(
        self, server: Evaluator, socket: web.WebSocketResponse, transport: asyncio.Transport | None = None
    ) -> None:
        self.member = b""
        self.sending: dict[int, float] = {}
        self._server = server
        self._socket = socket
        self._transport = transport
        self._key = b""
        self._worker = b""
        self._faults = self._costly = 0
        self._hello: Hello | None = None
        self._nonce = b""
        self._upload_key: UploadKey | None = None
        self._uploads = 0  # number of the last one
        self._sends = itertools.count()
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
            self._server.states.leave(self)

    async def announce(self) -> None:
        """Tell the member what the work is now."""
        pool = self._server.pool
        works = (WorkRecord.of(pool.work),) if pool.work is not None and pool.leasing else ()
        await self.send(Announce(works))
        await self.send(self._server.head())

    async def send(self, message: Record) -> None:
        """Send a message; waits where the member does not read."""
        number = next(self._sends)
        self.sending[number] = self._server.clock()
        try:
            await self._socket.send_bytes(messages.encode(message))
        except (ConnectionError, RuntimeError):
            await self.close()
        finally:
            del self.sending[number]

    def stuck(self, now: float) -> bool:
        """Whether the member has not read what was sent to it for `SEND_SECONDS`."""
        return any(at <= now - SEND_SECONDS for at in self.sending.values())

    def abort(self) -> None:
        """End the connection without a word: nobody reads it."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close()

    async def _handshake(self) -> None:
        pool, key, now = self._server.pool, self._server.key, self._server.clock()
        network, most = pool.settings.network, pool.settings.max_model_bytes
        sealing, drawn = self._server.sealing.public, secrets.token_bytes(32)
        self._hello = hello = Hello(
            messages.VERSION, network, key.public, sealing, drawn, most, self._server.states.most
        )
        await self.send(hello)
        join = await self._receive()
        if not isinstance(join, Join):
            raise Dismissed("no_join", "the first message must be Join")
        try:
            claim = messages.join_digest(hello, join.member, join.nonce, join.sealed_key, join.worker)
            verify(join.member, join.signature, claim)
            info = messages.key_info(hello, join.member, join.nonce)
            self._upload_key = UploadKey(self._server.sealing.open(join.sealed_key, info))
            address = pool.join(join.member, join.worker, now)
        except Invalid as error:
            raise Dismissed(error.code, str(error)) from error
        since = milliseconds(now - COSTLY_SECONDS)
        costly = sum(kept.code in COSTLY and kept.at >= since for kept in pool.rejections.of(address))
        if costly >= COSTLY_FAULTS:
            reason = f"{costly} of your shares were wrong of late; connect again in {COSTLY_SECONDS // 60} minutes"
            raise Dismissed(TOO_COSTLY, reason)
        self.member, self._key, self._worker, self._nonce = address, join.member, join.worker, join.nonce
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
        await self.send(Problem(code, clip(reason)))

    async def _serve(self, message: Record) -> None:
        pool = self._server.pool
        if isinstance(message, LeaseRequest):
            await self.send(await self._lease(message))
        elif isinstance(message, Progress):
            worker = self._worker + bytes([message.slot])
            if not pool.progress(self.member, worker, message.lease, message.step, self._server.clock()):
                await self.send(LeaseLost(message.lease))
        elif isinstance(message, Release):
            with contextlib.suppress(Unavailable):  # then the lease runs out by silence
                await self._server.commit(lambda: pool.release(self.member, message.lease, message.genotype))
        elif isinstance(message, SealedUpload):
            upload = await self._open(message, ShareUpload, messages.SHARE)
            if upload is not None:
                await self._take_share(upload)
        elif isinstance(message, SealedState):
            part = await self._open(message, StatePart, STATE)
            if part is not None:
                await self.send(await self._server.states.take(self, self._key, part))
        elif isinstance(message, StateRequest) and self._hello is not None:
            await self.send(await self._server.states.hand(self._hello, self._key, self._nonce, message))
        elif isinstance(message, StandingRequest):
            await self.send(self._server.standing(self.member))
        else:
            await self._fault("unexpected", f"a member does not send {type(message).__name__}")

    async def _lease(self, request: LeaseRequest) -> Record:
        pool, worker = self._server.pool, self._worker + bytes([request.slot])
        try:
            lease = await self._server.commit(
                lambda: pool.lease(self.member, worker, self._server.clock(), frozenset(request.trained)), urgent=True
            )
        except NoLease as error:
            return LeaseDenied(request.slot, error.code, clip(error), milliseconds(error.retry))
        except Unavailable as error:
            return LeaseDenied(request.slot, "unavailable", clip(error), 5000)
        work = pool.work
        if work is None:
            return LeaseDenied(request.slot, "no_work", "there is no search open now", 5000)
        deadline = milliseconds(lease.deadline)
        resumes = self._server.states.offers(self.member, lease.id)
        return LeaseGrant(request.slot, lease.id, work.epoch, work.task, lease.genotypes, deadline, resumes)

    async def _open(self, message: SealedUpload | SealedState, kind: type[R], sealed_as: bytes) -> R | None:
        """What was sealed; None where it is not for this place in this connection, which counts as a breach."""
        if self._upload_key is None or message.number <= self._uploads:
            await self._fault("replayed", f"upload {message.number} after upload {self._uploads}")
            return None
        try:
            data = self._upload_key.open(message.sealed, message.number, sealed_as)
            upload = kind.decode(data, len(data))
        except (BadSeal, BadEncoding) as error:
            await self._fault(error.code, str(error))
            return None
        self._uploads = message.number
        return upload

    async def _take_share(self, upload: ShareUpload) -> None:
        share, pool = upload.signed.share, self._server.pool
        if len(self._shares) >= PENDING_SHARES:
            reason = f"{PENDING_SHARES} shares of this connection wait already"
            await self.send(ShareRejected(share.id, "busy", reason, True))
            return
        try:
            known = await self._server.commit(
                lambda: pool.check_share(self._key, upload.signed, upload.model, self._server.clock())
            )
        except ShareRefused as refused:
            await self.send(ShareRejected(share.id, refused.code, clip(refused), False))
            return
        except Unavailable as error:
            await self.send(ShareRejected(share.id, "unavailable", clip(error), True))
            return
        if known is not None:
            await self._acknowledge(known)
            return
        task = asyncio.create_task(self._judge(upload))
        self._shares.add(task)
        task.add_done_callback(self._shares.discard)

    async def _judge(self, upload: ShareUpload) -> None:
        share = upload.signed.share
        try:
            accepted = await self._server.judge(upload.signed, upload.model)
        except ShareRefused as refused:
            await self.send(ShareRejected(share.id, refused.code, clip(refused), False))
            if refused.code in COSTLY:
                await self._count_costly()
        except Unavailable as error:
            await self.send(ShareRejected(share.id, "unavailable", clip(error), True))
        else:
            await self._acknowledge(accepted)

    async def _acknowledge(self, accepted: Accepted) -> None:
        await self.send(ShareAccepted(accepted.share, accepted.points, self._server.head()))

    async def _count_costly(self) -> None:
        self._costly += 1
        if self._costly >= COSTLY_FAULTS:
            await self._say_goodbye(TOO_COSTLY, f"{self._costly} shares were wrong; connect again later")

    async def _say_goodbye(self, code: str, reason: str) -> None:
        if not self._socket.closed:
            await self.send(Problem(code, clip(reason)))
            await self.close()
