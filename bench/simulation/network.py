"""Messages between simulated nodes: latencies, links, partitions, loss, and what it all costs.

Delays look like the internet's: nodes stand in a plane and have an access line each. A lost message is sent again, as
TCP does; a link that breaks loses what is under way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.simulation.events import Events
from bench.simulation.setting import NETWORK

if TYPE_CHECKING:
    from bench.simulation.node import Node

_FAR = 0.110  # seconds for the side of the plane
_ACCESS = 0.008  # median delay of an access line
_BYTES_PER_SECOND = 2.5e6
_RESEND = 0.3  # seconds after which a lost message is sent again, doubled each time
_DIAL_TRIPS = 3  # one-way trips that a connection and its handshake take
_HEAD = 48  # bytes of frame, type and TCP that any message costs


class Session:
    """One end of a connection: what `owner` knows of `peer`."""

    __slots__ = ("asked", "base", "delay", "height", "key", "open", "owner", "peer", "tip", "told", "twin")

    def __init__(self, owner: Node, peer: Node, delay: float) -> None:
        self.owner = owner
        self.peer = peer
        self.key = peer.key
        self.delay = delay
        self.twin: Session
        self.open = True
        self.height = peer.chain.tip.height
        self.tip = peer.chain.tip.id
        self.base = peer.chain.base
        self.told = 0  # transactions that the peer knows of, as a bit mask
        self.asked = 0  # transactions that the peer owes us


class Network:
    """Who can reach whom, and how long it takes."""

    def __init__(self, events: Events, seed: int, count: int, loss: float) -> None:
        self.events = events
        self.loss = loss
        self.messages = 0
        self.bytes = 0
        self._random = random.Random(f"{seed} network")
        rng = random.Random(f"{seed} places")
        self._places = [(rng.random(), rng.random()) for _ in range(count)]
        self._access = [min(0.2, rng.lognormvariate(math.log(_ACCESS), 0.7)) for _ in range(count)]
        self._group: list[int] | None = None

    def delay(self, a: int, b: int) -> float:
        """Least seconds from node to node."""
        return self._access[a] + self._access[b] + _FAR * math.dist(self._places[a], self._places[b])

    @property
    def parted(self) -> bool:
        """Whether the network is cut into groups."""
        return self._group is not None

    def reachable(self, a: int, b: int) -> bool:
        """Whether no partition lies between two nodes."""
        return self._group is None or self._group[a] == self._group[b]

    def partition(self, group: list[int] | None, nodes: list[Node]) -> None:
        """Cut the network into groups (by node), or heal it with None. Links across a cut break."""
        self._group = group
        for node in nodes:
            for session in list(node.sessions.values()):
                if not self.reachable(node.index, session.peer.index):
                    self.disconnect(session)

    def send(
        self, session: Session, size: int, action: Callable[..., None], *arguments: Any, extra: float = 0.0
    ) -> None:
        """Have the peer of `session` call `action(its session, *arguments)` `extra` seconds after `size` bytes came."""
        self.messages += 1
        self.bytes += size + _HEAD
        rng = self._random.random
        delay = session.delay * (1 + 0.2 * rng()) + size / _BYTES_PER_SECOND + extra
        wait = _RESEND
        while self.loss and rng() < self.loss:
            delay += wait
            wait *= 2
        self.events.after(delay, _deliver, session.twin, action, arguments)

    def dial(self, caller: Node, callee: Node, since: float | None = None) -> None:
        """Try to connect, now and, with growing pauses, until it works or the caller is gone."""
        now = self.events.now
        since = now if since is None else since
        if not caller.alive or callee.key in caller.sessions:
            return
        if self.try_once(caller, callee):
            return
        pause = min(NETWORK.backoff_most, NETWORK.backoff_first + (now - since)) * (0.5 + self._random.random())
        self.events.after(pause, self.dial, caller, callee, since)

    def try_once(self, caller: Node, callee: Node) -> bool:
        """Connect where that is possible now; returns whether it is."""
        now = self.events.now
        free = len(callee.sessions) < NETWORK.max_peers and len(caller.sessions) < NETWORK.max_peers
        banned = caller.standing.banned(callee.key, now) or callee.standing.banned(caller.key, now)
        if not callee.alive or not free or banned or not self.reachable(caller.index, callee.index):
            return False
        self.events.after(_DIAL_TRIPS * self.delay(caller.index, callee.index), self._connect, caller, callee)
        return True

    def _connect(self, caller: Node, callee: Node) -> None:
        if not caller.alive or callee.key in caller.sessions:
            return
        if not self.reachable(caller.index, callee.index) or not callee.alive:
            if callee in caller.configured:
                self.events.after(1.0, self.dial, caller, callee)
            return
        delay = self.delay(caller.index, callee.index)
        there, here = Session(callee, caller, delay), Session(caller, callee, delay)
        there.twin, here.twin = here, there
        caller.join(here)
        callee.join(there)

    def disconnect(self, session: Session) -> None:
        """The connection breaks: both sides notice, and the one that dials it tries again."""
        for end in (session, session.twin):
            if end.open:
                end.open = False
                end.owner.leave(end)


def _deliver(session: Session, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    if session.open and session.owner.alive:
        action(session, *arguments)
