"""Branches that fork deep, for a node that is joining: finds the fork, counts headers, fetches the denser branch.

Headers cost 18 kB for a window of 60 slots and say nothing that is sure: a seat can be checked only by executing. So
they only choose whose blocks are looked at; the node executes those before it gives up its own (`Branches.adopt`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from chain.chain import check_link
from chain.checkpoints import Checkpoint
from chain.errors import Ignore, Reject
from chain.types import Block, Header
from ponas_node.p2p import messages as m
from ponas_node.p2p.blocks import fetch_blocks
from ponas_node.p2p.errors import GiveUp, Misbehaviour
from ponas_node.p2p.host import Host
from ponas_node.p2p.session import Session
from ponas_node.p2p.settings import NetworkSettings

log = logging.getLogger("ponas_node.p2p")
_MOST_BYTES = 256 << 20  # of the blocks of one window


class DeepForks:
    """Settles with one peer at a time whose branch is followed."""

    def __init__(self, host: Host, settings: NetworkSettings) -> None:
        self._host = host
        self._settings = settings

    async def settle(self, session: Session) -> bool:
        """Follow the peer's branch in place of ours where that is right; returns whether we do.

        Raises Misbehaviour, RequestFailed, GiveUp.
        """
        chain = self._host.chain
        found = await self._fork(session)
        if found is None:
            return False
        fork, header = found
        trusted = chain.checkpoints.ahead(chain.tip.height)
        if trusted is not None and fork.height < trusted.height <= session.height:
            await self._leads_to(session, fork, header, trusted)
            log.info("the branch of %s leads to the checkpoint at height %d", session.address, trusted.height)
            with _judging():
                self._host.branches.pin(fork, header)
            return True
        if not chain.is_deep(fork):
            return False
        with _judging():
            self._host.branches.check_open(fork)
        headers = await self._window(session, fork, header)
        ours = self._host.branches.density(fork)
        log.info(
            "%s forks after height %d: it shows %d blocks in the %d slots after, we have %d",
            session.address, fork.height, len(headers), self._host.branches.window, ours,
        )  # fmt: skip
        if len(headers) <= ours:
            return False
        blocks = await self._blocks(session, fork, headers)
        with _judging():
            await self._host.branches.adopt(blocks, session.key)
        return True

    async def _fork(self, session: Session) -> tuple[Header, Header] | None:
        """The last block that we share with the peer, and the peer's header after it; None where it is level."""
        chain = self._host.chain
        low, high = chain.base, chain.tip.height
        while True:
            step = -(-(high - low + 1) // m.MAX_LOCATOR)
            heights = [*range(high, low, -step)][: m.MAX_LOCATOR - 1]
            heights.append(low)
            ids = {chain.canonical(height).id: height for height in heights}
            headers = await self._headers(session, tuple(ids), 1)
            if not headers:
                return None
            at = ids.get(headers[0].parent)
            if at is None:
                raise Misbehaviour("bad_batch", "the headers do not follow the locator")
            above = min((height for height in heights if height > at), default=at + 1)
            if above == at + 1:
                fork = chain.canonical(at)
                if at < chain.tip.height and chain.canonical(at + 1).id == headers[0].id:
                    return None  # one of us has moved meanwhile
                self._check(fork, headers[0])
                return fork, headers[0]
            low, high = at, above - 1

    async def _leads_to(self, session: Session, fork: Header, header: Header, trusted: Checkpoint) -> None:
        """Raise unless the peer's headers lead from `fork` to the trusted block; its id vouches for all of them."""
        last = header
        while last.height < trusted.height:
            headers = await self._headers(session, (last.id,), min(m.MAX_HEADERS, trusted.height - last.height))
            if not headers:
                raise GiveUp(f"it has no headers up to the checkpoint at height {trusted.height}")
            for each in headers:
                self._check(last, each)
                last = each
        if last.id != trusted.id:
            raise Misbehaviour("invalid_block", f"another block at the height {trusted.height} of a checkpoint")

    async def _window(self, session: Session, fork: Header, first: Header) -> list[Header]:
        """The peer's headers in the window after `fork`, signatures verified: at most one a slot."""
        end = fork.slot + self._host.branches.window
        found: list[Header] = []
        more = [first]
        while more:
            for header in more:
                self._check(found[-1] if found else fork, header)
                if header.slot > end:
                    return found
                with _judging():
                    header.check_signature(self._host.network)
                found.append(header)
            more = await self._headers(session, (found[-1].id,), m.MAX_HEADERS)
        return found

    async def _blocks(self, session: Session, fork: Header, headers: list[Header]) -> list[Block]:
        """The blocks of these headers."""
        blocks: list[Block] = []
        size = 0
        while len(blocks) < len(headers):
            locator = (blocks[-1].id if blocks else fork.id,)
            found = await fetch_blocks(session, locator, self._settings.batch_timeout)
            if not found:
                raise Misbehaviour("false_tip", "shows headers and has no blocks for them")
            for block, header in zip(found, headers[len(blocks) :], strict=False):
                if block.id != header.id:
                    raise GiveUp("it has other blocks than its headers said: it has moved meanwhile")
                blocks.append(block)
                size += len(block.raw)
            if size > _MOST_BYTES:
                raise GiveUp(f"the blocks after the fork have more than {_MOST_BYTES >> 20} MiB", long=True)
        return blocks

    async def _headers(self, session: Session, locator: tuple[bytes, ...], most: int) -> list[Header]:
        reply = await session.request(
            lambda number: m.GetHeaders(number, most, locator), m.Headers, self._settings.request_timeout
        )
        if len(reply.headers) > most:
            raise Misbehaviour("bad_batch", "more headers than were asked for")
        return list(reply.headers)

    def _check(self, parent: Header, header: Header) -> None:
        if header.parent != parent.id:
            raise Misbehaviour("bad_batch", "the headers do not follow one another")
        with _judging():
            check_link(parent, header)
            self._host.chain.checkpoints.check(header)


@contextmanager
def _judging() -> Iterator[None]:
    """Around what judges a peer's branch: one that breaks a rule is its fault, one that we may not follow is not."""
    try:
        yield
    except Reject as error:
        raise Misbehaviour("invalid_block", f"{error.code}: {error}") from error
    except Ignore as error:
        raise GiveUp(str(error), long=True) from error
