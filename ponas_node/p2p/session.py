"""One connection: frames in and out of a WebSocket, limits, requests and their replies, keep-alive.

The reader never waits for the writer and the writer never for the reader; a peer that does not read fills its own queue
and is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from chain.encoding import Record
from chain.errors import BadEncoding
from chain.types import Block, Transaction
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import Misbehaviour, Refused, RequestFailed, TimedOut
from ponas_node.p2p.inventory import Recent
from ponas_node.p2p.limits import LIMITS, UNKNOWN, Meter
from ponas_node.p2p.settings import NetworkSettings
from ponas_node.p2p.text import clean

Socket = web.WebSocketResponse | ClientWebSocketResponse
T = TypeVar("T", m.Pong, m.Blocks, m.ArtifactInfo, m.Chunk, m.Peers, m.Headers)
Handler = Callable[["Session", Record], Awaitable[None]]
_REPLIES = (m.Pong, m.Blocks, m.ArtifactInfo, m.Chunk, m.Peers, m.Headers)
_MAX_WAIT = 10.0
_RUDE = 0.9  # seconds
_LATE = 256  # timed-out requests whose reply is still tolerated


@dataclass(slots=True)
class _Pending:
    kind: type[Record]
    future: asyncio.Future[m.Reply]


class Session:
    """A connection after its handshake. `key` names the peer; `run` until it ends. `wall` gives Unix time."""

    def __init__(
        self,
        socket: Socket,
        peer: m.Hello,
        address: str,
        dialled: bool,
        settings: NetworkSettings,
        since: float,
        wall: Callable[[], float],
    ) -> None:
        self.key = peer.key
        self.agent = clean(peer.agent, 64)
        self.height = peer.height
        self.tip = peer.tip
        self.base = peer.base
        self.address = address
        self.host = address.rpartition(":")[0].strip("[]")
        self.dialled = dialled
        self.reachable: str | None = None  # where it listens
        self.since = since
        self.latency: float | None = None
        self.clock_ahead: float | None = None  # seconds by which the peer's clock is ahead of ours
        self.bytes_in = 0
        self.bytes_out = 0
        self.closing: Goodbye | None = None
        self.on_misbehaviour: Callable[[Session, str, str, float], None] = _ignore
        self.expects_item: Callable[[Session, type[Record]], bool] = _expect_all
        self._wall = wall
        self._socket = socket
        self._settings = settings
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._late = Recent(_LATE)
        self._next_request = 0
        self._meter = Meter()

    def send(self, message: Record) -> None:
        """Queue a message. Never waits; a peer whose queue is full is dropped."""
        if self.closing is not None:
            return
        data = m.frame(message)
        settings = self._settings
        if len(self._queue) >= settings.send_queue_frames or self._queued + len(data) > settings.send_queue_bytes:
            self.close("too_slow", "you read too slowly: the send queue is full")
            return
        self._queue.append(data)
        self._queued += len(data)
        self._wake.set()

    async def request(self, make: Callable[[int], Record], reply: type[T], timeout: float) -> T:
        """Send the request that `make` builds from its number; returns the reply. Raises RequestFailed."""
        if self.closing is not None:
            raise RequestFailed("the peer is gone")
        number = self._next_request = (self._next_request + 1) & 0xFFFFFFFF
        future: asyncio.Future[m.Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(reply, future)
        self.send(make(number))
        try:
            answer = await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise TimedOut(f"no {reply.__name__} within {timeout:g} s") from None
        finally:
            if self._pending.pop(number, None) is not None and not (future.done() and not future.cancelled()):
                self._late.add(number.to_bytes(4, "big"))
        if not isinstance(answer, reply):
            raise RequestFailed("the reply is of another type")
        return answer

    def close(self, code: str, reason: str) -> None:
        """End the connection with a Goodbye. Returns at once; `run` does the rest."""
        if self.closing is None:
            self.closing = Goodbye(code, reason)
            self._end.set()

    async def run(self, handler: Handler) -> Goodbye:
        """Serve the connection until it ends; returns why it did."""
        tasks = [
            asyncio.create_task(self._read(handler)),
            asyncio.create_task(self._write()),
            asyncio.create_task(self._keep_alive()),
            asyncio.create_task(self._end.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    self._fail(error)
            self.close("closed", "the connection was closed")
        finally:
            self.close("error", "an error of the node that you were connected to")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for pending in self._pending.values():
                if not pending.future.done():
                    pending.future.set_exception(RequestFailed("the peer left"))
            await self._say_goodbye()
        return self.closing or Goodbye("closed", "the connection was closed")

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Misbehaviour):
            self.on_misbehaviour(self, error.code, str(error), 1.0)
            self.close(error.code, str(error))
        elif isinstance(error, Refused):
            self.close(error.code, str(error))
        elif isinstance(error, TimeoutError):
            self.close("timeout", str(error) or "you did not read for too long")
        elif isinstance(error, ConnectionError | RuntimeError | OSError):
            self.close("lost", "the connection was lost")
        else:
            raise error

    async def _say_goodbye(self) -> None:
        goodbye = self.closing
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError, OSError):
            async with asyncio.timeout(self._settings.close_timeout):
                if goodbye is not None and goodbye.tell and not self._socket.closed:
                    await self._socket.send_bytes(m.frame(m.Goodbye(goodbye.code[:32], clean(goodbye.reason))))
                await self._socket.close()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                data = self._queue.popleft()
                self._queued -= len(data)
                async with asyncio.timeout(self._settings.send_timeout):
                    await self._socket.send_bytes(data)
                self.bytes_out += len(data)

    async def _read(self, handler: Handler) -> None:
        while (data := await receive(self._socket)) is not None:
            self.bytes_in += len(data)
            kind = m.TYPES.get(data[0]) if data else None
            await self._throttle(kind)
            if kind is None:
                self._unknown(data)
                continue
            message = self._parse(kind, data)
            if message is None:
                continue
            if isinstance(message, m.Goodbye):
                self.closing = Goodbye(clean(message.code, 32), clean(message.reason), tell=False)
                return
            if isinstance(message, _REPLIES):
                self._on_reply(message)
            elif isinstance(message, m.Ping):
                self.send(m.Pong(message.request, max(0, int(self._wall() * 1000))))
            else:
                await handler(self, message)

    async def _throttle(self, kind: type[Record] | None) -> None:
        """Read a peer that is too fast more slowly. Short waits are mere pacing; long ones cost a little."""
        wait = min(_MAX_WAIT, self._meter.take(kind, _clock()))
        if wait >= _RUDE:
            self.on_misbehaviour(self, "flood", f"too many {'unknown' if kind is None else kind.__name__} frames", wait)
        if wait > 0:
            await asyncio.sleep(wait)

    def _unknown(self, data: bytes) -> None:
        if len(data) > UNKNOWN.most:
            raise Misbehaviour("oversized", f"a frame of unknown type with {len(data)} bytes")
        self.on_misbehaviour(self, "unknown_type", f"frame of unknown type {data[0] if data else 'none'}", 1.0)

    def _parse(self, kind: type[Record], data: bytes) -> Record | None:
        """Check size, place and expectation before a byte is parsed. None: dropped."""
        most = LIMITS[kind].most
        if len(data) - 1 > most:
            raise Misbehaviour("oversized", f"{kind.__name__} of {len(data) - 1} bytes, the limit is {most}")
        if kind in (m.Hello, m.Auth):
            raise Misbehaviour("out_of_place", f"{kind.__name__} after the handshake")
        if not self._expects(kind):
            self.on_misbehaviour(self, "unsolicited", f"{kind.__name__} that was not asked for", 1.0)
            return None
        try:
            return kind.decode(data[1:], most)
        except BadEncoding as error:
            raise Misbehaviour("malformed", clean(str(error))) from error

    def _expects(self, kind: type[Record]) -> bool:
        if kind in (Transaction, Block, m.NotFound):
            return self.expects_item(self, kind)
        if kind in _REPLIES:
            return len(self._late) > 0 or any(pending.kind is kind for pending in self._pending.values())
        return True

    def _on_reply(self, message: m.Reply) -> None:
        pending = self._pending.get(message.request)
        if pending is None or pending.kind is not type(message) or pending.future.done():
            if not self._late.pop(message.request.to_bytes(4, "big")):
                self.on_misbehaviour(self, "unsolicited", f"{type(message).__name__} that was not asked for", 1.0)
            return
        pending.future.set_result(message)

    async def _keep_alive(self) -> None:
        while True:
            started, sent = _clock(), self._wall()
            try:
                pong = await self.request(m.Ping, m.Pong, self._settings.ping_timeout)
            except RequestFailed as error:
                raise TimeoutError(f"no answer to a ping: {error}") from error
            self.latency = _clock() - started
            self.clock_ahead = pong.time / 1000 - (sent + self.latency / 2)
            await asyncio.sleep(self._settings.ping_every)


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why a session ended; `tell` is false where it was the peer who said so."""

    code: str
    reason: str
    tell: bool = True


async def receive(socket: Socket) -> bytes | None:
    """Next binary frame, or None at the end. Raises Misbehaviour for anything else."""
    message = await socket.receive()
    if message.type == WSMsgType.BINARY:
        return bytes(message.data)
    if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
        if socket.close_code == 1009:
            raise Misbehaviour("oversized", "a frame larger than any message may be")
        return None
    if message.type == WSMsgType.ERROR:
        code = getattr(message.data, "code", None)
        if code == 1009:
            raise Misbehaviour("oversized", "a frame larger than any message may be")
        if code is not None:
            raise Misbehaviour("malformed", "not a well-formed WebSocket frame")
        return None
    raise Misbehaviour("malformed", "only binary frames are spoken here")


def _ignore(session: Session, code: str, text: str, times: float) -> None:
    return None


def _expect_all(session: Session, kind: type[Record]) -> bool:
    return True


def _clock() -> float:
    return asyncio.get_running_loop().time()
