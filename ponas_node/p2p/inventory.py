"""Who has what, and whom to ask for it: the state of gossip for one kind of item. No I/O, no clock.

An announced id is asked for at one peer at a time. Where that peer does not deliver in time, refuses or leaves, the
next one that announced it is asked. Everything is bounded: per peer and for each id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Peer = bytes
Ask = dict[Peer, list[bytes]]


class Recent:
    """A bounded set that forgets what was longest not touched."""

    __slots__ = ("_items", "_most")

    def __init__(self, most: int) -> None:
        self._items: OrderedDict[bytes, None] = OrderedDict()
        self._most = most

    def add(self, id: bytes) -> None:
        """Remember `id`."""
        self._items[id] = None
        self._items.move_to_end(id)
        if len(self._items) > self._most:
            self._items.popitem(last=False)

    def pop(self, id: bytes) -> bool:
        """Forget `id`; returns whether it was there."""
        return self._items.pop(id, self) is None

    def __contains__(self, id: bytes) -> bool:
        return id in self._items

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of an inventory."""

    known: int = 8192  # ids a peer is remembered to have
    backlog: int = 2048  # ids a peer announced and was not asked for yet
    in_flight: int = 32  # items of a peer that are asked for or being judged, at a time
    sources: int = 8  # peers remembered for one id
    done: int = 8192  # ids not to ask for again: refused or dropped lately
    timeout: float = 5.0


@dataclass(slots=True)
class _Peer:
    known: Recent
    late: Recent
    backlog: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    asked: dict[bytes, float] = field(default_factory=dict)  # id to deadline
    judging: int = 0


class Inventory:
    """Gossip of one kind of item. `have` tells whether an id is here already."""

    def __init__(self, have: Callable[[bytes], bool], bounds: Bounds) -> None:
        self._have = have
        self._bounds = bounds
        self._peers: dict[Peer, _Peer] = {}
        self._sources: dict[bytes, list[Peer]] = {}
        self._done: dict[bytes, float] = {}  # id to the time until which it is not asked for

    def join(self, peer: Peer) -> None:
        """A peer is there."""
        self._peers[peer] = _Peer(Recent(self._bounds.known), Recent(self._bounds.in_flight * 2))

    def leave(self, peer: Peer, now: float) -> Ask:
        """A peer is gone; returns what to ask of others."""
        state = self._peers.pop(peer, None)
        if state is None:
            return {}
        moved: set[Peer] = set()
        for id in [*state.asked, *state.backlog]:
            moved |= self._next_source(peer, id)
        return self._refill(moved, now)

    def announced(self, peer: Peer, ids: Iterable[bytes], now: float) -> Ask:
        """A peer says that it has `ids`; returns what to ask."""
        state = self._peers[peer]
        for id in ids:
            state.known.add(id)
            if self._have(id) or self._is_done(id, now):
                continue
            sources = self._sources.get(id)
            if sources is None:
                if len(state.backlog) < self._bounds.backlog:
                    self._sources[id] = [peer]
                    state.backlog[id] = None
            elif peer not in sources and len(sources) < self._bounds.sources:
                sources.append(peer)
        return self._refill([peer], now)

    def delivered(self, peer: Peer, id: bytes) -> bool:
        """A peer sent an item; returns whether it was asked for it, maybe too long ago.

        Where it was, the caller calls `judged` once it is done with the item; until then it counts as in flight, so
        that a peer cannot send faster than its items are judged.
        """
        state = self._peers[peer]
        state.known.add(id)
        if state.asked.pop(id, None) is None and not state.late.pop(id):
            return False
        state.judging += 1
        for other in self._sources.pop(id, ()):
            second = self._peers.get(other)
            if second is not None:
                second.backlog.pop(id, None)
                if second.asked.pop(id, None) is not None:
                    second.late.add(id)
        return True

    def judged(self, peer: Peer, now: float) -> Ask:
        """An item that the peer delivered is dealt with; returns what to ask next."""
        state = self._peers.get(peer)
        if state is None:
            return {}
        state.judging = max(0, state.judging - 1)
        return self._refill([peer], now)

    def not_found(self, peer: Peer, ids: Iterable[bytes], now: float) -> tuple[int, Ask]:
        """A peer no longer has `ids`; returns how many of them it was asked for, and what to ask next."""
        state = self._peers[peer]
        count = 0
        moved: set[Peer] = {peer}
        for id in ids:
            if state.asked.pop(id, None) is not None:
                count += 1
                moved |= self._next_source(peer, id)
            elif state.late.pop(id):
                count += 1
        return count, self._refill(moved, now)

    def expire(self, now: float) -> tuple[dict[Peer, int], Ask]:
        """Give up on requests past their deadline; returns how many each peer missed, and what to ask next."""
        missed: dict[Peer, int] = {}
        moved: set[Peer] = set()
        for peer, state in self._peers.items():
            over = [id for id, deadline in state.asked.items() if deadline <= now]
            for id in over:
                del state.asked[id]
                state.late.add(id)
                moved |= self._next_source(peer, id)
            if over:
                missed[peer] = len(over)
                moved.add(peer)
        return missed, self._refill(moved, now)

    def expects(self, peer: Peer) -> bool:
        """Whether anything that this peer was asked for may still come."""
        state = self._peers.get(peer)
        return state is not None and bool(state.asked or len(state.late))

    def settle(self, id: bytes, until: float) -> None:
        """Do not ask for `id` before `until`: it was refused, or cannot be used now."""
        self._done[id] = until
        while len(self._done) > self._bounds.done:
            del self._done[next(iter(self._done))]

    def to_tell(self, peer: Peer, ids: Iterable[bytes]) -> list[bytes]:
        """Those of `ids` that the peer does not know; from now on it does."""
        state = self._peers[peer]
        fresh = [id for id in ids if id not in state.known]
        for id in fresh:
            state.known.add(id)
        return fresh

    def _is_done(self, id: bytes, now: float) -> bool:
        until = self._done.get(id)
        if until is None:
            return False
        if until <= now:
            del self._done[id]
            return False
        return True

    def _next_source(self, peer: Peer, id: bytes) -> set[Peer]:
        """`peer` will not deliver `id`: put it on top of the next source's backlog."""
        sources = self._sources.get(id)
        if sources is None:
            return set()
        if peer in sources:
            sources.remove(peer)
        for other in list(sources):
            state = self._peers.get(other)
            if state is None:
                sources.remove(other)
                continue
            if id not in state.asked:
                state.backlog[id] = None
                state.backlog.move_to_end(id, last=False)
            return {other}
        del self._sources[id]
        return set()

    def _refill(self, peers: Iterable[Peer], now: float) -> Ask:
        asks: Ask = {}
        for peer in peers:
            state = self._peers.get(peer)
            if state is None:
                continue
            while state.backlog and len(state.asked) + state.judging < self._bounds.in_flight:
                id, _ = state.backlog.popitem(last=False)
                if self._have(id):
                    self._sources.pop(id, None)
                    continue
                state.asked[id] = now + self._bounds.timeout
                asks.setdefault(peer, []).append(id)
        return asks
