"""Sees to it that nobody signs two blocks for one slot unpunished: keeps headers, and files evidence. Protocol C11."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chain.errors import Invalid, NotApplicable
from chain.keys import PrivateKey
from chain.types import Header, Kind
from consensus import records
from consensus.evidence import find_offence
from consensus.types import EvidenceBody
from ponas_node.sender import Sender

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_MOST_HEADERS = 1 << 16
_MOST_KEPT = 1024  # pieces of evidence on disk


class Witness:
    """Watches the headers of all blocks that a node sees; files with one key."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self._store = node.store.namespace(b"witness")
        self._sender = Sender(node, key)
        self._seen: dict[tuple[int, bytes], Header] = {}  # by slot and minter; only of owners of seats
        self.offences = 0
        node.header_listeners.append(self.see)

    async def start(self) -> None:
        """Take the headers of the chain, and file from now on."""
        chain = self._node.chain
        header: Header | None = chain.tip
        while header is not None and header.height and header.slot > self._oldest():
            self.see(header)
            header = chain.header(header.parent)
        self._node.spawn(self._run())

    async def stop(self) -> None:
        """Nothing is left to end: the node ends what it spawned."""

    def counters(self) -> dict[str, float]:
        """For the node's metrics."""
        return {"equivocations_seen": self.offences}

    def see(self, header: Header) -> None:
        """A header whose signature was checked. Two for one slot by one owner are evidence."""
        place = header.slot, header.minter
        earlier = self._seen.get(place)
        if earlier is None:
            if header.slot > self._oldest() and self._is_owner(header):
                self._seen[place] = header
                while len(self._seen) > _MOST_HEADERS:
                    del self._seen[next(iter(self._seen))]
        elif earlier.signed_message(self._node.network) != header.signed_message(self._node.network):
            self._keep(earlier, header)
            if header.seat != earlier.seat:
                self._keep(header, earlier)

    def _keep(self, first: Header, second: Header) -> None:
        """Write evidence against the seat of the first header down, once."""
        name = first.seat + records.number(first.slot)
        if first.minter == self._key.public or self._store.get(name) is not None:
            return
        if sum(1 for _ in self._store.iterate()) >= _MOST_KEPT:
            return
        log.warning("seat %s signed two blocks for slot %d", first.seat.hex()[:16], first.slot)
        self.offences += 1
        self._store.put(name, EvidenceBody(first, second).encode())

    def _oldest(self) -> int:
        """Last slot of which no evidence counts in the next block."""
        return self._node.chain.tip.slot + 1 - self._node.genesis.consensus.challenge_blocks

    def _is_owner(self, header: Header) -> bool:
        holder = records.seat_holder(self._node.chain.state, header.seat)
        return holder is not None and holder[0] == header.minter

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._node.genesis.consensus.slot_milliseconds / 1000)
            self._seen = {place: header for place, header in self._seen.items() if header.slot > self._oldest()}
            for name, value in list(self._store.iterate()):
                body = EvidenceBody.decode(value)
                if body.first.slot <= self._oldest() - self._node.genesis.ledger.max_rollback:
                    self._store.delete(name)
                else:
                    await self._file(name, body)

    async def _file(self, name: bytes, body: EvidenceBody) -> None:
        """Send the evidence, or do nothing where it does not count on this branch, or was paid for."""
        chain = self._node.chain
        try:
            find_offence(chain.state, self._node.genesis.consensus, body, chain.tip.slot + 1)
            await self._sender.send(b"evidence" + name, Kind.EVIDENCE, body)
        except NotApplicable as error:
            log.debug("evidence against %s is not sent: %s", name.hex()[:16], error)
        except Invalid as error:
            log.warning("evidence against %s could not be sent: %s", name.hex()[:16], error)
