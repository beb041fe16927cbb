"""The connected peers, who was refused, and what misbehaviour leads to."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator

from chain.encoding import Record
from ponas_node.p2p.handshake import newcomer_stays
from ponas_node.p2p.info import Refusal
from ponas_node.p2p.inventory import Ask
from ponas_node.p2p.scoring import POINTS, Standing
from ponas_node.p2p.session import Session
from ponas_node.p2p.text import clean, is_loopback

log = logging.getLogger("ponas_node.p2p")
_REFUSALS = 16
_REPEATED = 10.0  # seconds in which the same host and code are logged once


class Roster:
    """Sessions by node key, one per key. `wall` gives Unix time, for what people read."""

    def __init__(self, own: bytes, ban_seconds: float, wall: Callable[[], float]) -> None:
        self.sessions: dict[bytes, Session] = {}
        self.standing = Standing(ban_seconds)
        self.refusals: deque[Refusal] = deque(maxlen=_REFUSALS)
        self._own = own
        self._wall = wall

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self.sessions.values()))

    def __len__(self) -> int:
        return len(self.sessions)

    def add(self, session: Session) -> Session | None:
        """Take a session in; returns the one it replaces. Closes the newcomer instead where that must go."""
        old = self.sessions.get(session.key)
        if old is not None:
            if not newcomer_stays(self._own, session.key, old.dialled, session.dialled):
                session.close("duplicate", "there is a connection between us already")
                return None
            old.close("duplicate", "another connection between us stays")
        self.sessions[session.key] = session
        return old

    def remove(self, session: Session) -> bool:
        """Take a session out; returns whether it was in."""
        if self.sessions.get(session.key) is not session:
            return False
        del self.sessions[session.key]
        return True

    def send(self, key: bytes, message: Record) -> None:
        """Send to one peer, where it is still there."""
        session = self.sessions.get(key)
        if session is not None:
            session.send(message)

    def ask(self, asks: Ask, make: Callable[[list[bytes]], Record]) -> None:
        """Send what an inventory wants asked."""
        for key, ids in asks.items():
            self.send(key, make(ids))

    def banned(self, name: bytes | str) -> str | None:
        """A sentence, where the key or host is banned."""
        ban = self.standing.banned(name, _clock())
        return None if ban is None else f"banned for another {ban[0]:.0f} s: {ban[1]}"

    def blame(self, key: bytes, code: str, text: str, times: float = 1.0) -> None:
        """A peer misbehaved: count it, and drop and ban the peer where it is too much."""
        session = self.sessions.get(key)
        if session is None:
            if self.standing.add(key, POINTS[code] * times, _clock()):
                self.standing.ban(key, f"{code}: {clean(text)}", _clock())
            return
        self.blame_session(session, code, text, times)

    def blame_session(self, session: Session, code: str, text: str, times: float) -> None:
        """As `blame`, for a session at hand."""
        now, text = _clock(), clean(text)
        log.debug("peer %s: %s: %s", session.address, code, text)
        over = self.standing.add(session.key, POINTS[code] * times, now)
        if not is_loopback(session.host):
            over = self.standing.add(session.host, POINTS[code] * times, now) or over
        if not over:
            return
        self.standing.ban(session.key, f"{code}: {text}", now)
        if not is_loopback(session.host):
            self.standing.ban(session.host, f"{code}: {text}", now)
        self.refuse(session.address, code, text)
        session.close(code, f"{text}; come back later")

    def blame_host(self, host: str, code: str, text: str) -> None:
        """Someone at `host` misbehaved before we knew its key."""
        now = _clock()
        if not is_loopback(host) and self.standing.add(host, POINTS[code], now):
            self.standing.ban(host, f"{code}: {clean(text)}", now)

    def refuse(self, address: str, code: str, reason: str) -> None:
        """Remember and log a refusal. A host that comes again and again fills neither the memory nor the log."""
        reason, now = clean(reason), self._wall()
        name = (address.rpartition(":")[0], code)
        last = next((old for old in self.refusals if (old.address.rpartition(":")[0], old.code) == name), None)
        if last is not None:
            self.refusals.remove(last)
        self.refusals.append(Refusal(address, code, reason, now))
        level = logging.DEBUG if last is not None and now - last.at < _REPEATED else logging.WARNING
        log.log(level, "no connection with %s (%s): %s", address, code, reason)


def _clock() -> float:
    return asyncio.get_running_loop().time()
