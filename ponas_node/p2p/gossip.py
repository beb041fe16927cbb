"""Announcements, requests and deliveries of transactions and blocks: inventories tied to sessions and to the node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from chain.encoding import Record
from chain.errors import Ignore, Invalid, Reject, UnknownParent
from chain.types import Block, Transaction, transactions_root
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import Misbehaviour
from ponas_node.p2p.host import Host
from ponas_node.p2p.inventory import Bounds, Inventory
from ponas_node.p2p.roster import Roster
from ponas_node.p2p.session import Session
from ponas_node.p2p.settings import NetworkSettings

log = logging.getLogger("ponas_node.p2p")
FAR = 16  # blocks behind at which gossip is no use, and nothing is gained by waiting for it
_MAX_BLOCKS_ASKED = 4  # blocks of one peer in flight
_AT_ONCE = 4  # transactions of one peer that are judged at a time
_REST = 60.0  # seconds for which a transaction that was judged is not asked for again
REST_BLOCK = 5.0
REST_BAD = 600.0
_MAX_PENDING = 4096  # ids told in answer to one GetPending


def block_bounds(timeout: float) -> Bounds:
    """Limits of an inventory of blocks, of which few are under way; `timeout` in seconds for one to come."""
    return Bounds(known=1024, backlog=256, in_flight=_MAX_BLOCKS_ASKED, done=1024, timeout=timeout)


class Gossip:
    """Gossip with all peers. `behind` is called where a peer has a block whose parent we lack."""

    def __init__(
        self,
        host: Host,
        roster: Roster,
        settings: NetworkSettings,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        behind: Callable[[bytes, Block], None],
    ) -> None:
        self.syncing = False
        self._host = host
        self._roster = roster
        self._spawn = spawn
        self._behind = behind
        self._judging: dict[bytes, asyncio.Future[None]] = {}
        self._lanes: dict[bytes, asyncio.Semaphore] = {}
        self._untold: dict[bytes, None] = {}
        self._told_tip = host.chain.tip.id
        timeout = settings.item_timeout
        self._items = {
            m.Item.TRANSACTION: Inventory(self._has_transaction, Bounds(timeout=timeout)),
            m.Item.BLOCK: Inventory(self._has_block, block_bounds(timeout)),
        }

    def join(self, session: Session) -> None:
        """A peer is there."""
        for inventory in self._items.values():
            inventory.join(session.key)
        self._lanes[session.key] = asyncio.Semaphore(_AT_ONCE)
        if not self.syncing and session.height <= self._host.chain.tip.height:
            session.send(m.GetPending())

    def leave(self, session: Session) -> None:
        """A peer is gone."""
        self._lanes.pop(session.key, None)
        for kind, inventory in self._items.items():
            self._ask(kind, inventory.leave(session.key, _clock()))

    def refresh(self) -> None:
        """Catch-up is over: tell of the tip, and ask for the pending transactions that we ignored until here."""
        self.announce_block(self._host.chain.tip.id)
        for session in self._roster:
            session.send(m.GetPending())

    def announce_transaction(self, id: bytes) -> None:
        """Tell the peers of a pending transaction, with the next tick."""
        self._untold[id] = None

    def announce_block(self, id: bytes) -> None:
        """Tell the peers of a block, now; the tip follows with the next tick. In catch-up it would be no news."""
        if self.syncing:
            return
        for session in self._roster:
            if self._items[m.Item.BLOCK].to_tell(session.key, [id]):
                session.send(m.Announce(m.Item.BLOCK, (id,)))

    def tick(self) -> None:
        """Flush announcements; look at deadlines."""
        self._tell_tip()
        ids, self._untold = list(self._untold), {}
        for session in self._roster if ids else ():
            self._announce(session, self._items[m.Item.TRANSACTION].to_tell(session.key, ids))
        for kind, inventory in self._items.items():
            missed, asks = inventory.expire(_clock())
            for key, count in missed.items():
                self._roster.blame(key, "not_delivered", f"did not deliver {count} announced items in time", count)
            self._ask(kind, asks)

    def expects(self, session: Session, kind: type[Record]) -> bool:
        """Whether the peer may send a frame of this type: it owes us something."""
        if kind is Transaction:
            return self._items[m.Item.TRANSACTION].expects(session.key)
        if kind is Block:
            return self._items[m.Item.BLOCK].expects(session.key)
        return any(inventory.expects(session.key) for inventory in self._items.values())

    def on_announce(self, session: Session, message: m.Announce) -> None:
        """A peer has items."""
        kind = _item(message.kind)
        inventory = self._items[kind]
        if self.syncing and session.height > self._host.chain.tip.height + FAR:
            return  # too early to judge what this peer has; `refresh` and the peers' tips bring it back
        self._ask(kind, inventory.announced(session.key, message.ids, _clock()))

    def on_request(self, session: Session, message: m.Request) -> None:
        """A peer wants items."""
        kind = _item(message.kind)
        missing: list[bytes] = []
        for index, id in enumerate(message.ids):
            item: Transaction | Block | None
            if kind is m.Item.TRANSACTION:
                item = self._host.pending_transaction(id)
            else:
                item = self._host.chain.block(id) if index < _MAX_BLOCKS_ASKED else None
            if item is None:
                missing.append(id)
            else:
                session.send(item)
        if missing:
            session.send(m.NotFound(message.kind, tuple(missing)))

    def on_not_found(self, session: Session, message: m.NotFound) -> None:
        """A peer no longer has what it announced."""
        kind = _item(message.kind)
        count, asks = self._items[kind].not_found(session.key, message.ids, _clock())
        if count < len(message.ids):
            self._roster.blame(session.key, "unsolicited", "NotFound for what was not asked for")
        if count:
            self._roster.blame(session.key, "not_delivered", f"no longer has {count} announced items", count)
        self._ask(kind, asks)

    def on_get_pending(self, session: Session) -> None:
        """A peer wants to hear of all pending transactions."""
        ids = self._host.pending_ids()[:_MAX_PENDING]
        self._items[m.Item.TRANSACTION].to_tell(session.key, ids)
        self._announce(session, ids)

    def on_item(self, session: Session, item: Transaction | Block) -> None:
        """A peer sent an item."""
        kind = m.Item.TRANSACTION if isinstance(item, Transaction) else m.Item.BLOCK
        if not self._items[kind].delivered(session.key, item.id):
            self._roster.blame(session.key, "unsolicited", f"{kind.name.lower()} that was not asked for")
            return
        if isinstance(item, Transaction):
            self._spawn(self._judge_transaction(item, session.key))
        else:
            self._spawn(self._judge_block(item, session.key))

    async def take_block(self, block: Block, peer: bytes) -> None:
        """Hand a block to the node; raises Invalid. A block that is being judged already is waited for."""
        if transactions_root(block.transactions) != block.header.transactions_root:
            # the id does not cover these transactions: nothing may be concluded about the block of that id
            raise Reject("the transactions are not those of the header", "bad_transactions_root")
        running = self._judging.get(block.id)
        if running is not None:
            await asyncio.shield(running)
            return
        future = self._judging[block.id] = asyncio.get_running_loop().create_future()
        try:
            await self._host.receive_block(block, peer)
            future.set_result(None)
        except Invalid as error:
            future.set_exception(error)
            raise
        finally:
            del self._judging[block.id]
            if not future.done():
                future.set_exception(Ignore("the node could not judge the block"))
            future.exception()  # it may be that nobody waits for it

    async def _judge_transaction(self, transaction: Transaction, peer: bytes) -> None:
        inventory = self._items[m.Item.TRANSACTION]
        lane = self._lanes.get(peer)
        try:
            async with lane if lane is not None else asyncio.Semaphore():
                inventory.settle(transaction.id, _clock() + _REST)
                await self._host.receive_transaction(transaction, peer)
        except Reject as error:
            inventory.settle(transaction.id, _clock() + REST_BAD)
            self._roster.blame(peer, "invalid_transaction", f"{error.code}: {error}")
        except Invalid as error:
            log.debug("transaction %s dropped: %s: %s", transaction.id.hex(), error.code, error)
        except Exception:
            log.exception("transaction %s could not be judged", transaction.id.hex())
        finally:
            self._ask(m.Item.TRANSACTION, inventory.judged(peer, _clock()))

    async def _judge_block(self, block: Block, peer: bytes) -> None:
        inventory = self._items[m.Item.BLOCK]
        try:
            await self.take_block(block, peer)
        except UnknownParent:
            self._behind(peer, block)
        except Reject as error:
            if error.code != "bad_transactions_root":
                inventory.settle(block.id, _clock() + REST_BAD)
            self._roster.blame(peer, "invalid_block", f"{error.code}: {error}")
        except Invalid as error:
            inventory.settle(block.id, _clock() + REST_BLOCK)
            log.debug("block %s dropped: %s: %s", block.id.hex(), error.code, error)
        except Exception:
            log.exception("block %s could not be judged", block.id.hex())
        finally:
            self._ask(m.Item.BLOCK, inventory.judged(peer, _clock()))

    def _announce(self, session: Session, ids: list[bytes]) -> None:
        for start in range(0, len(ids), m.MAX_IDS):
            session.send(m.Announce(m.Item.TRANSACTION, tuple(ids[start : start + m.MAX_IDS])))

    def _ask(self, kind: m.Item, asks: dict[bytes, list[bytes]]) -> None:
        self._roster.ask(asks, lambda ids: m.Request(kind, tuple(ids)))

    def _tell_tip(self) -> None:
        tip = self._host.chain.tip
        if tip.id != self._told_tip:
            self._told_tip = tip.id
            for session in self._roster:
                session.send(m.Tip(tip.height, tip.id))

    def _has_transaction(self, id: bytes) -> bool:
        return self._host.pending_transaction(id) is not None

    def _has_block(self, id: bytes) -> bool:
        return id in self._judging or self._host.chain.has(id)


def _item(kind: int) -> m.Item:
    try:
        return m.Item(kind)
    except ValueError:
        raise Misbehaviour("malformed", f"there is no item of kind {kind}") from None


def _clock() -> float:
    return asyncio.get_running_loop().time()
