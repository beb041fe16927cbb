"""Catch-up: whom to ask, when to give up on it, how far we are. `Planner` decides without I/O, `Syncer` acts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chain.errors import Ignore, Reject, TooDeep, UnknownParent
from chain.types import Block
from ponas_node.p2p import messages as m
from ponas_node.p2p.blocks import fetch_blocks
from ponas_node.p2p.deep import DeepForks
from ponas_node.p2p.errors import GiveUp, Misbehaviour, RequestFailed, TimedOut
from ponas_node.p2p.gossip import FAR, Gossip
from ponas_node.p2p.host import Host
from ponas_node.p2p.info import SyncStatus
from ponas_node.p2p.roster import Roster
from ponas_node.p2p.session import Session
from ponas_node.p2p.settings import NetworkSettings

log = logging.getLogger("ponas_node.p2p")
_WINDOW = 30.0  # seconds over which the speed is measured
LONG = 6  # times `sync_retry`: a branch that is too deep stays so


@dataclass(frozen=True, slots=True)
class Claim:
    """What a peer says its tip is, and whether we have that block; and where the blocks that it can give begin."""

    key: bytes
    height: int
    known: bool
    base: int = 0

    def helps(self, height: int) -> bool:
        """Whether the peer is ahead of a chain of this height and has the blocks that follow it."""
        return self.height > height and self.base <= height + 1 and not self.known


class Planner:
    """Chooses the peer to catch up from."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._ahead_since: float | None = None
        self._urgent = False
        self._resting: dict[bytes, float] = {}
        self._compared: dict[bytes, float] = {}
        self._failures: dict[bytes, int] = {}

    def hurry(self) -> None:
        """A block came whose parent we lack: gossip will not close the gap."""
        self._urgent = True

    def choose(self, now: float, height: int, claims: Iterable[Claim], joining: bool = False) -> bytes | None:
        """Peer to catch up from, or None where we are level or should wait a little.

        Where the node is `joining`, also one whose branch is not longer than ours, but may be denser.
        """
        self._resting, self._compared = _not_over(self._resting, now), _not_over(self._compared, now)
        ahead = [
            claim
            for claim in claims
            if (claim.helps(height) and claim.key not in self._resting)
            or (joining and not claim.known and claim.key not in self._compared)
        ]
        if not ahead:
            self._ahead_since, self._urgent = None, False
            return None
        if self._ahead_since is None:
            self._ahead_since = now
        best = min(ahead, key=lambda claim: (self._failures.get(claim.key, 0), -claim.height))
        if self._urgent or best.height - height >= FAR or now - self._ahead_since >= self._grace:
            return best.key
        return None

    def failed(self, key: bytes, until: float) -> None:
        """Catching up from this peer failed: leave it alone until then."""
        self._resting[key] = until
        self._failures[key] = self._failures.get(key, 0) + 1

    def compared(self, key: bytes, until: float) -> None:
        """This peer's branch was looked at, and ours stays: that is so for a while."""
        self._compared[key] = until

    def succeeded(self, key: bytes) -> None:
        """Catching up from this peer brought us level with it."""
        self._failures.pop(key, None)

    def forget(self, key: bytes) -> None:
        """The peer is gone. Its rest is remembered until it is over, so that a reconnect does not clear it."""
        self._failures.pop(key, None)


def _not_over(rests: dict[bytes, float], now: float) -> dict[bytes, float]:
    """Those of the times, by peer, that are still to come."""
    return {key: until for key, until in rests.items() if until > now}


class Progress:
    """Speed and estimate, from heights and times."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=1024)

    def start(self) -> None:
        """Forget the past: a new run begins."""
        self._samples.clear()

    def record(self, now: float, height: int) -> None:
        """The chain has this height now."""
        self._samples.append((now, height))
        while self._samples[0][0] < now - _WINDOW:
            self._samples.popleft()

    def speed(self) -> float:
        """Blocks per second lately."""
        if len(self._samples) < 2:
            return 0.0
        (begin, low), (end, high) = self._samples[0], self._samples[-1]
        return max(0.0, (high - low) / (end - begin)) if end > begin else 0.0

    def eta(self, height: int, best: int) -> float | None:
        """Seconds until `best`, or None where nothing moves."""
        speed = self.speed()
        if best <= height:
            return 0.0
        return (best - height) / speed if speed > 0 else None


def check_batch(locator: Sequence[bytes], above: int, blocks: Sequence[Block]) -> None:
    """Raise Misbehaviour unless a batch follows an id of the locator without gaps, above height `above`."""
    if blocks[0].header.parent not in locator:
        raise Misbehaviour("bad_batch", "the blocks do not follow the locator")
    if blocks[0].header.height <= above:
        raise Misbehaviour("bad_batch", "the blocks go back")
    for parent, block in pairwise(blocks):
        if block.header.parent != parent.id or block.header.height != parent.header.height + 1:
            raise Misbehaviour("bad_batch", "the blocks do not follow one another")


class Syncer:
    """Catches up, from one peer at a time, for as long as `run` runs."""

    def __init__(self, host: Host, roster: Roster, gossip: Gossip, settings: NetworkSettings) -> None:
        self._host = host
        self._roster = roster
        self._gossip = gossip
        self._settings = settings
        self._planner = Planner(settings.sync_grace)
        self._deep = DeepForks(host, settings)
        self._progress = Progress()
        self._begin = 0  # height from which blocks came one after another
        self._wake = asyncio.Event()

    def behind(self, peer: bytes, block: Block) -> None:
        """A peer has a block whose parent we lack."""
        session = self._roster.sessions.get(peer)
        if session is not None and block.header.height > session.height:
            session.height, session.tip = block.header.height, block.id
        self._planner.hurry()
        self._wake.set()

    def forget(self, peer: bytes) -> None:
        """A peer is gone."""
        self._planner.forget(peer)

    def status(self) -> SyncStatus:
        """Where we are."""
        height = self._host.chain.tip.height
        best = max([height, *(session.height for session in self._roster)]) if self._gossip.syncing else height
        eta = self._progress.eta(height, best) if self._gossip.syncing else None
        speed = self._progress.speed() if self._gossip.syncing else 0.0
        return SyncStatus(self._gossip.syncing, height, best, speed, eta, self._host.branches.is_joining())

    async def run(self) -> None:
        """Never returns."""
        while True:
            session = self._choose()
            if session is None:
                self._wake.clear()
                try:
                    async with asyncio.timeout(self._settings.tick):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            await self._from(session)
            self._pause()

    def _choose(self) -> Session | None:
        chain = self._host.chain
        claims = [Claim(peer.key, peer.height, chain.has(peer.tip), peer.base) for peer in self._roster]
        key = self._planner.choose(_clock(), chain.tip.height, claims, self._host.branches.is_joining())
        return None if key is None else self._roster.sessions.get(key)

    async def _from(self, session: Session) -> None:
        """Catch up from one peer until level with it, or until it fails."""
        rest = self._settings.sync_retry
        try:
            await self._follow(session)
            self._planner.succeeded(session.key)
            return
        except Misbehaviour as error:
            self._roster.blame(session.key, error.code, str(error))
            reason = f"{error.code}: {error}"
        except RequestFailed as error:
            if isinstance(error, TimedOut):
                self._roster.blame(session.key, "stalled", str(error))
            reason = str(error)
        except GiveUp as error:
            reason = str(error)
            rest *= LONG if error.long else 1
        except TooDeep as error:
            reason = str(error)
            rest *= LONG
        except Exception:
            log.exception("catching up from %s failed", session.address)
            reason = "an error of this node"
        log.info("catching up from %s stopped: %s", session.address, reason)
        self._planner.failed(session.key, _clock() + rest)
        self._planner.compared(session.key, _clock() + rest)

    async def _follow(self, session: Session) -> None:
        """Go on along the peer's branch: the longer one, or after a deep fork, for a node that joins, the denser."""
        if session.height > self._host.chain.tip.height:
            try:
                await self._batches(session)
            except TooDeep:
                if not self._host.branches.is_joining():
                    raise
            else:
                return
        if await self._deep.settle(session):
            await self._batches(session)
            return
        self._planner.compared(session.key, _clock() + self._settings.sync_retry * LONG)
        if session.height > self._host.chain.tip.height:
            raise GiveUp("its branch forks deep and is not denser than ours", long=True)

    async def _batches(self, session: Session) -> None:
        chain = self._host.chain
        self._begin = chain.tip.height
        last: Block | None = None
        self._progress.start()
        while not chain.has(session.tip) or last is None:
            locator = ([last.id] if last is not None else []) + chain.locator()
            asked = tuple(dict.fromkeys(locator))[: m.MAX_LOCATOR]
            blocks = await fetch_blocks(session, asked, self._settings.batch_timeout)
            if not blocks:
                if not chain.has(session.tip) and session.height > chain.tip.height:
                    if session.base > 1:
                        raise GiveUp(f"it has no blocks before height {session.base}, and our branch leaves earlier")
                    raise Misbehaviour("false_tip", "claims a longer chain and has no blocks for it")
                return
            check_batch(asked, -1 if last is None else last.header.height, blocks)
            for block in blocks:
                await self._take(session, block)
                self._progress.record(_clock(), chain.tip.height)
                self._note(session)
            last = blocks[-1]

    def _note(self, session: Session) -> None:
        """See whether this node is really behind: valid blocks say so, and not what a peer claims.

        While it is, it neither mints nor relays; a claim must not be able to bring that about.
        """
        tip = self._host.chain.tip
        if not self._gossip.syncing and session.height > tip.height >= self._begin + FAR:
            self._gossip.syncing = True
            log.info("catching up from height %d to %d", self._begin, session.height)

    def _pause(self) -> None:
        """Nothing more is to be had now: take part again."""
        self._begin = self._host.chain.tip.height
        if self._gossip.syncing:
            self._gossip.syncing = False
            log.info("caught up to height %d", self._begin)
            self._gossip.refresh()

    async def _take(self, session: Session, block: Block) -> None:
        """Hand one block to the node; wait and try again where it cannot judge it yet."""
        if self._host.chain.has(block.id):
            return
        for wait in (*self._settings.sync_patience, None):
            try:
                await self._gossip.take_block(block, session.key)
                return
            except Reject as error:
                raise Misbehaviour("invalid_block", f"{error.code}: {error}") from error
            except TooDeep:
                raise
            except UnknownParent as error:
                raise GiveUp(str(error)) from error
            except Ignore as error:
                if self._host.chain.has(block.id):
                    return
                if wait is None:
                    text = f"block {block.id.hex()} at height {block.header.height} cannot be judged now: {error}"
                    raise GiveUp(text) from error
            self._pause()
            await asyncio.sleep(wait)


def _clock() -> float:
    return asyncio.get_running_loop().time()
