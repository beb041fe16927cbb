"""The network of one node: listens, dials, greets, and ties gossip, catch-up and artifacts to the sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from chain.encoding import Record
from chain.types import Block, Transaction
from ponas_node.p2p import messages as m
from ponas_node.p2p.addresses import AddressBook
from ponas_node.p2p.artifacts import Fetcher
from ponas_node.p2p.dialler import Dialler
from ponas_node.p2p.errors import Refused, RequestFailed
from ponas_node.p2p.gossip import Gossip
from ponas_node.p2p.greeting import RefusedByPeer, greet, say_goodbye
from ponas_node.p2p.handshake import Handshake
from ponas_node.p2p.host import Host
from ponas_node.p2p.info import PeerInfo, Refusal, SyncStatus
from ponas_node.p2p.listener import Listener
from ponas_node.p2p.roster import Roster
from ponas_node.p2p.service import Service
from ponas_node.p2p.session import Session, Socket
from ponas_node.p2p.settings import NetworkSettings
from ponas_node.p2p.sync import Syncer
from ponas_node.p2p.text import clean, endpoint, is_loopback, parse_endpoint, reachable_at

__all__ = ["Network", "NetworkSettings"]

log = logging.getLogger("ponas_node.p2p")
_GREETING = 32  # inbound handshakes at a time
_GREETING_PER_HOST = 4
_QUIET = ("duplicate", "lost", "stopping", "closed", "timeout")


class Network:
    """Peers of a node. `start` before anything else, within a running event loop."""

    def __init__(self, host: Host, settings: NetworkSettings, source: random.Random | None = None) -> None:
        self.settings = settings
        self._host = host
        self._roster = Roster(host.node_key.public, settings.ban_seconds, host.now)
        source = source if source is not None else random.SystemRandom()
        self._book = AddressBook(source)
        self._gossip = Gossip(host, self._roster, settings, self._spawn, self._behind)
        self._syncer = Syncer(host, self._roster, self._gossip, settings)
        self._fetcher = Fetcher(host, self._roster, settings)
        self._service = Service(host, self._known_addresses)
        self._listener = Listener(settings, self._serve_inbound)
        self._dialler = Dialler(settings, self._book, self._roster, self._serve_outbound, source)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._greeting: Counter[str] = Counter()
        self._stopping = False

    @property
    def port(self) -> int:
        """Port that this node listens on; 0 before `start`."""
        return self._listener.port

    @property
    def refusals(self) -> list[Refusal]:
        """The last few connections that were refused, by either side, oldest first."""
        return list(self._roster.refusals)

    async def start(self) -> None:
        """Listen and dial. Raises PortInUse, or ValueError where a configured peer is not "host:port"."""
        for address in self.settings.peers:
            parse_endpoint(address)
        await self._listener.start()
        log.info("listening on %s", endpoint(self.settings.listen_host, self.port))
        await self._dialler.start()
        for address in self.settings.peers:
            self._spawn(self._dialler.keep(address))
        self._spawn(self._dialler.explore())
        self._spawn(self._syncer.run())
        self._spawn(self._tick())

    async def stop(self) -> None:
        """Say goodbye to all peers and stop listening."""
        self._stopping = True
        self._fetcher.stop()
        for session in self._roster:
            session.close("stopping", "the node stops")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dialler.stop()
        await self._listener.stop()

    def announce_transaction(self, id: bytes) -> None:
        """Tell the peers of a pending transaction."""
        self._gossip.announce_transaction(id)

    def announce_block(self, id: bytes) -> None:
        """Tell the peers of an accepted block, and of the tip where it changed."""
        self._gossip.announce_block(id)

    async def fetch_artifact(self, id: bytes, size: int, hint: bytes | None = None, timeout: float = 20) -> bool:
        """Have an artifact of `size` bytes in the node's store; returns whether it is there. `hint` is asked first."""
        return await self._fetcher.fetch(id, size, hint, timeout)

    def peers(self) -> list[PeerInfo]:
        """The connected peers."""
        now, wall = _clock(), self._host.now()
        return [
            PeerInfo(
                key=session.key.hex(),
                address=session.address,
                direction="out" if session.dialled else "in",
                agent=session.agent,
                height=session.height,
                tip=session.tip.hex(),
                connected_since=wall - (now - session.since),
                latency=session.latency,
                clock_ahead=session.clock_ahead,
                score=self._roster.standing.score(session.key, now),
                bytes_in=session.bytes_in,
                bytes_out=session.bytes_out,
            )
            for session in self._roster
        ]

    def clocks_ahead(self) -> list[float]:
        """Seconds by which the clocks of the peers are ahead of this node's, as far as they have told."""
        return [session.clock_ahead for session in self._roster if session.clock_ahead is not None]

    def sync_status(self) -> SyncStatus:
        """How far catch-up is."""
        return self._syncer.status()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.settings.tick)
            try:
                self._gossip.tick()
                self._listener.reap()
            except Exception:
                log.exception("the network's tick failed")

    def _hello(self) -> m.Hello:
        chain, settings = self._host.chain, self.settings
        return m.Hello(
            version=m.VERSION,
            network=self._host.network,
            genesis=chain.genesis.id,
            key=self._host.node_key.public,
            nonce=secrets.token_bytes(32),
            agent=clean(settings.agent, 64),
            listen=settings.advertise if settings.advertise is not None else f":{self.port}",
            height=chain.tip.height,
            tip=chain.tip.id,
            base=chain.base,
        )

    async def _serve_inbound(self, socket: web.WebSocketResponse, address: str) -> None:
        task = asyncio.current_task()
        if task is not None:  # so that `stop` ends it
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        host = parse_endpoint(address)[0] if address != "unknown:0" else "unknown"
        per_host = _GREETING if is_loopback(host) else _GREETING_PER_HOST
        reason = self._roster.banned(host)
        error: Refused | None = None
        if self._stopping:
            error = Refused("stopping", "the node stops")
        elif reason is not None:
            error = Refused("banned", reason)
        elif len(self._roster) >= self.settings.max_peers:
            error = Refused("full", "the node has as many peers as it takes")
        elif self._greeting[host] >= per_host or self._greeting.total() >= _GREETING:
            error = Refused("busy", "too many handshakes at a time")
        if error is not None:
            self._roster.refuse(address, error.code, str(error))
            await say_goodbye(socket, error, self.settings.close_timeout)
            return
        self._greeting[host] += 1
        try:
            session = await self._greet(socket, address, dialled=False)
        except Refused:
            return
        finally:
            self._greeting[host] -= 1
            if not self._greeting[host]:
                del self._greeting[host]
        await self._run(session)

    async def _serve_outbound(self, socket: Socket, address: str) -> str:
        """Greet and serve a connection that we dialled; returns the code of its end. Raises Refused."""
        session = await self._greet(socket, address, dialled=True)
        self._book.worked(address)
        return await self._run(session)

    async def _greet(self, socket: Socket, address: str, dialled: bool) -> Session:
        def admit(hello: m.Hello) -> None:
            reason = self._roster.banned(hello.key)
            if reason is not None:
                raise Refused("banned", reason)
            if dialled:
                self._dialler.found(address, hello.key)
            old = self._roster.sessions.get(hello.key)
            if dialled and old is not None and old.dialled:
                raise Refused("duplicate", "there is a connection between us already")

        handshake = Handshake(self._hello(), self._host.node_key, dialled)
        try:
            hello = await greet(socket, handshake, self.settings, admit)
        except Refused as error:
            if error.code in ("bad_handshake", "bad_signature", "protocol") and not isinstance(error, RefusedByPeer):
                self._roster.blame_host(parse_endpoint(address)[0], "bad_handshake", str(error))
            learned_self = error.code == "self" and address not in self.settings.peers
            if error.code not in ("duplicate", "lost", "stopping") and not learned_self:
                self._roster.refuse(address, error.code, str(error))
            raise
        session = Session(socket, hello, address, dialled, self.settings, _clock(), self._host.now)
        session.on_misbehaviour = self._roster.blame_session
        session.expects_item = self._gossip.expects
        session.reachable = address if dialled else reachable_at(hello.listen, session.host)
        if session.reachable is not None:
            self._book.add(session.reachable, session.key)
        return session

    async def _run(self, session: Session) -> str:
        """Serve a session from admission to its end; returns the code of its end."""
        replaced = self._roster.add(session)
        if replaced is not None:
            self._gossip.leave(replaced)
        admitted = session.closing is None
        if admitted:
            self._gossip.join(session)
            self._spawn(self._learn(session))
            direction = "to" if session.dialled else "from"
            log.info("connected %s %s (%s, height %d)", direction, session.address, session.agent, session.height)
        code = "error"
        try:
            end = await session.run(self._handle)
            code = end.code
            if admitted:
                log.info("disconnected %s (%s): %s", session.address, end.code, end.reason)
                if not end.tell and code not in _QUIET:
                    self._roster.refuse(session.address, code, f"the peer says: {end.reason}")
        except Exception:
            log.exception("the session with %s failed", session.address)
        finally:
            if self._roster.remove(session):
                self._gossip.leave(session)
                self._syncer.forget(session.key)
        return code

    async def _handle(self, session: Session, message: Record) -> None:
        if self._roster.sessions.get(session.key) is not session:
            return
        if isinstance(message, Transaction | Block):
            self._gossip.on_item(session, message)
        elif isinstance(message, m.Tip):
            session.height, session.tip = message.height, message.id
        elif isinstance(message, m.Announce):
            self._gossip.on_announce(session, message)
        elif isinstance(message, m.Request):
            self._gossip.on_request(session, message)
        elif isinstance(message, m.NotFound):
            self._gossip.on_not_found(session, message)
        elif isinstance(message, m.GetPending):
            self._gossip.on_get_pending(session)
        else:
            await self._service.answer(session, message)

    async def _learn(self, session: Session) -> None:
        """Ask a new peer for addresses."""
        with contextlib.suppress(RequestFailed):
            reply = await session.request(m.GetPeers, m.Peers, self.settings.request_timeout)
            for address in reply.addresses:
                try:
                    self._book.add(endpoint(*parse_endpoint(address)), session.key)
                except ValueError as error:
                    self._roster.blame(session.key, "bad_address", str(error))

    def _known_addresses(self) -> list[str]:
        return self._book.sample(m.MAX_ADDRESSES)

    def _behind(self, peer: bytes, block: Block) -> None:
        self._syncer.behind(peer, block)


def _clock() -> float:
    return asyncio.get_running_loop().time()
