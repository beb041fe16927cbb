"""The pool's door: a WebSocket that the node mounts on its API port, and the tasks that keep the pool going."""

from __future__ import annotations

import asyncio
import functools
import gc
import heapq
import logging
import resource
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from chain.collector import collect_young
from chain.keys import PrivateKey
from pool import messages
from pool.batches import Batches, Evaluate
from pool.commits import GroupCommit
from pool.disputes import Replay
from pool.errors import Unavailable
from pool.heads import SignedHead, sign_head
from pool.messages import Limit, Standing
from pool.pool import Accepted, Pool
from pool.records import SignedShare, milliseconds
from pool.sealing import SealingKey
from pool.session import Bucket, Session
from pool.states import StateDesk, StateFiles
from pool.work import Work

log = logging.getLogger(__name__)
T = TypeVar("T")
PATH = "/pool/v1/ws"
HEARTBEAT_SECONDS = 60.0
TICK_SECONDS = 1.0
STANDING_SECONDS = 5.0
SWEEP_SECONDS = 60.0
CONNECTIONS = 16384
HANDSHAKES = Limit(size=0, rate=2.0, burst=128)
"""Connections that one host may open."""
MODELS = 1024
"""Models of a work that are kept: more than the competition seals, as some results may yet be refuted."""
ENDED = 1024
"""Ended connections, which leave cycles behind, after which the garbage collector looks at everything."""
HOST_SECONDS = 600.0
"""How long a host that opens no connection is remembered: long enough that its bucket is full again."""

REPLAY_PAUSE = 5.0
Train = Callable[[Replay], Awaitable[tuple[bytes, ...]]]
"""A replay to the leaves that it asks for."""


class BestScores:
    """The best scores of a work. Only a result that is among them can compete, so only its model is kept.

    After a restart it knows no scores, and admits more.
    """

    def __init__(self, most: int = MODELS) -> None:
        self._most = most
        self._work: Work | None = None
        self._scores: list[int] = []

    def admits(self, work: Work, correct: int) -> bool:
        """Count a result; whether it is as good as the best so far."""
        if work is not self._work:
            self._work, self._scores = work, []
        if len(self._scores) < self._most:
            heapq.heappush(self._scores, correct)
            return True
        if correct < self._scores[0]:
            return False
        heapq.heapreplace(self._scores, correct)
        return True


class PoolServer:
    """Serves `pool` to members. `evaluate` and `train` run elsewhere, each one call at a time.

    Without `states` trainings are not handed on from one member to another.
    """

    def __init__(
        self,
        pool: Pool,
        evaluate: Evaluate,
        train: Train,
        store_artifact: Callable[[bytes], bytes],
        clock: Callable[[], float],
        key: PrivateKey,
        connections: int = CONNECTIONS,
        connections_per_host: int = 64,
        handshakes_per_host: Limit = HANDSHAKES,
        states: StateFiles | None = None,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.key = key
        self.sealing = SealingKey.generate()
        self._batches = Batches(evaluate)
        self._train = train
        self._store_artifact = store_artifact
        self._most, self._most_per_host = connections, connections_per_host
        self._hosts: Counter[str] = Counter()
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._head: SignedHead | None = None
        self._announced: tuple[Work | None, bool] = (None, False)
        self._handshakes_per_host = handshakes_per_host
        self._handshakes: dict[str, Bucket] = {}
        self._commits = GroupCommit(pool)
        self.states = StateDesk(pool, states, self.commit, clock)
        self._best = BestScores()
        self._standings: dict[bytes, Standing] = {}
        self._standings_until = 0.0
        self._ended = 0

    def routes(self) -> list[web.RouteDef]:
        """The routes for the node's API."""
        return [web.get(PATH, self._connect)]

    async def start(self) -> None:
        """Begin to watch over leases, and to train again what is disputed.

        For the whole process: as many open files as the system allows, as every connection is one; and while members
        search, the garbage collector looks at new objects only, as going through all that a pool holds takes too long.
        """
        collect_young()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._spawn(self._watch())
        self._spawn(self._replay())
        self._spawn(self._batches.run())
        self._spawn(self._sweep())

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
            self._collect()
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

    async def commit(self, change: Callable[[], T], urgent: bool = False) -> T:
        """Make a change of the pool, and return once it is durable; raises what it raises, or Unavailable."""
        return await self._commits.run(change, urgent)

    def standing(self, member: bytes) -> Standing:
        """Where a member stands in the next payout table, as of at most `STANDING_SECONDS` ago."""
        now = self.clock()
        if now >= self._standings_until:
            due = self.pool.book.due(len(self.pool.book.earned))
            total = sum(credit.points for credit in due)
            self._standings = {
                credit.address: Standing(place, len(due), credit.points, total)
                for place, credit in enumerate(due, start=1)
            }
            self._standings_until = now + STANDING_SECONDS
        return self._standings.get(member) or Standing(0, len(self._standings), 0, 0)

    async def judge(self, signed: SignedShare, model: bytes) -> Accepted:
        """Measure a share's model, store it, and credit the share. Raises ShareRefused, or Unavailable."""
        work = self.pool.work
        if work is None:
            raise Unavailable("the pool has no work now")
        share = signed.share
        try:
            measured = await self._batches.evaluate(work, share.genotype, model)
        except Exception as error:  # whatever went wrong in the worker is not the member's fault
            log.warning("a share of %s could not be evaluated: %s", share.address.hex()[:12], error)
            raise Unavailable(f"the pool could not evaluate the model now: {error}") from error
        if measured == share.validation_correct and self._best.admits(work, measured):
            try:
                await asyncio.to_thread(self._store_artifact, model)
            except OSError as error:
                log.error("a model could not be stored: %s", error)
                raise Unavailable("the pool could not store the model now") from error
        return await self.commit(lambda: self.pool.accept_share(signed, measured, self.clock()))

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        host, now = request.remote or "", self.clock()
        if len(self._sessions) >= self._most or self._hosts[host] >= self._most_per_host:
            raise web.HTTPServiceUnavailable(text="the pool has as many connections as it takes; try again later")
        bucket = self._handshakes.setdefault(host, Bucket(self._handshakes_per_host.burst, now))
        if not bucket.take(self._handshakes_per_host, now):
            raise web.HTTPTooManyRequests(text="too many connections were opened from here; try again later")
        most = messages.largest(self.pool.settings.max_model_bytes)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=most, compress=False)
        await socket.prepare(request)
        session = Session(self, socket, request.transport)
        self._sessions.add(session)
        self._hosts[host] += 1
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
            self._ended += 1
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
            await socket.close()
        return socket

    def _collect(self) -> None:
        self._ended = 0
        gc.collect()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self.clock()
            for host in [host for host, bucket in self._handshakes.items() if bucket.at < now - HOST_SECONDS]:
                del self._handshakes[host]
            if self._ended >= ENDED:
                self._collect()
            for session in [session for session in self._sessions if session.sending and session.stuck(now)]:
                log.info("a member does not read what it is sent; its connection ends")
                session.abort()
            try:
                expired = self.pool.tick(now)
            except Exception:  # a full disk must not end the watch for good
                log.exception("the pool could not let leases expire")
                continue
            for lease in expired:
                log.info("lease %d of %s is late; another member trains it too", lease.id, lease.member.hex()[:12])

    async def _sweep(self) -> None:
        """Remove states that nobody wants any more, those too that a kill left behind."""
        while True:
            try:
                await self.states.sweep()
            except OSError as error:
                log.warning("states of trainings could not be removed: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _replay(self) -> None:
        """Train again what is disputed, one at a time, and act on the outcome."""
        failures = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            due = self.pool.replays(self.clock())
            if not due:
                continue
            replay = due[failures % len(due)]
            try:
                leaves = await self._train(replay)
                for member in await self.commit(functools.partial(self.pool.resolve, replay, leaves, self.clock())):
                    log.warning("member %s claimed a training that is not so; it is banned", member.hex()[:12])
            except Exception as error:  # the worker's trouble, or a full disk: undecided, it is tried again
                log.warning("%s could not be trained again: %s", replay.genotype.hex(), error)
                failures += 1
                await asyncio.sleep(REPLAY_PAUSE)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("pool: a task failed", exc_info=task.exception())
