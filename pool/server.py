"""The pool's door: a WebSocket that the node mounts on its API port, and the tasks that keep the pool going."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from chain.keys import PrivateKey
from pool import messages
from pool.heads import SignedHead, sign_head
from pool.pool import Accepted, Pool
from pool.records import SignedShare, milliseconds
from pool.session import Session, Unavailable
from pool.work import Work

log = logging.getLogger(__name__)
PATH = "/pool/v1/ws"
HEARTBEAT_SECONDS = 20.0
TICK_SECONDS = 1.0

Evaluate = Callable[[Work, bytes, bytes], Awaitable[int]]
"""(work, genotype, model bytes) to the exact number of validation samples predicted; negative: no model of it."""


class PoolServer:
    """Serves `pool` to members. `evaluate` runs elsewhere, at most `evaluations` at a time."""

    def __init__(
        self,
        pool: Pool,
        evaluate: Evaluate,
        store_artifact: Callable[[bytes], bytes],
        clock: Callable[[], float],
        key: PrivateKey,
        evaluations: int = 1,
        connections: int = 1024,
        connections_per_host: int = 64,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.key = key
        self._evaluate = evaluate
        self._store_artifact = store_artifact
        self._slots = asyncio.Semaphore(evaluations)
        self._most, self._most_per_host = connections, connections_per_host
        self._hosts: Counter[str] = Counter()
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._head: SignedHead | None = None
        self._announced: tuple[Work | None, bool] = (None, False)

    def routes(self) -> list[web.RouteDef]:
        """The routes for the node's API."""
        return [web.get(PATH, self._connect)]

    async def start(self) -> None:
        """Begin to watch over leases."""
        self._spawn(self._watch())

    async def stop(self) -> None:
        """Close all connections. The pool's state is durable at any time, so there is nothing to save."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(session.close() for session in list(self._sessions)), return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_work(self, work: Work | None) -> None:
        """What members should train now; they are told where it changed."""
        self.pool.set_work(work, self.clock())
        state = (self.pool.work, self.pool.leasing)
        if state != self._announced:
            self._announced = state
            for session in self._sessions:
                if session.member:
                    self._spawn(session.announce())

    def head(self) -> SignedHead:
        """The head of the ledger, signed once for every size."""
        ledger = self.pool.ledger
        if self._head is None or self._head.size != len(ledger):
            at = milliseconds(self.clock())
            self._head = sign_head(self.key, self.pool.settings.network, len(ledger), ledger.root, at)
        return self._head

    async def judge(self, signed: SignedShare, model: bytes) -> Accepted:
        """Measure a share's model, store it, and credit the share. Raises ShareRefused, or Unavailable."""
        work = self.pool.work
        if work is None:
            raise Unavailable("the pool has no work now")
        share = signed.share
        async with self._slots:
            try:
                measured = await self._evaluate(work, share.genotype, model)
            except Exception as error:  # whatever went wrong in the worker is not the member's fault
                log.warning("a share of %s could not be evaluated: %s", share.address.hex()[:12], error)
                raise Unavailable(f"the pool could not evaluate the model now: {error}") from error
        if measured == share.validation_correct:
            try:
                await asyncio.to_thread(self._store_artifact, model)
            except OSError as error:
                log.error("a model could not be stored: %s", error)
                raise Unavailable("the pool could not store the model now") from error
        return self.pool.accept_share(signed, measured, self.clock())

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        host = request.remote or ""
        if len(self._sessions) >= self._most or self._hosts[host] >= self._most_per_host:
            raise web.HTTPServiceUnavailable(text="the pool has as many connections as it takes; try again later")
        most = messages.largest(self.pool.settings.max_model_bytes)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=most, compress=False)
        await socket.prepare(request)
        session = Session(self, socket)
        self._sessions.add(session)
        self._hosts[host] += 1
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            await socket.close()
        return socket

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                expired = self.pool.tick(self.clock())
            except Exception:  # a full disk must not end the watch for good
                log.exception("the pool could not let leases expire")
                continue
            for lease in expired:
                log.info("lease %d of %s expired; it goes to another member", lease.id, lease.member.hex()[:12])

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("pool: a task failed", exc_info=task.exception())
