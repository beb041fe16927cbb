"""Transactions that wait for a block. No time, no network: state and context come in as arguments.

Every transaction is judged by applying it to a scratch overlay: the tip's state at the start of the next block with the
pool's other transactions applied. The overlay is built anew when tip or slot change, and after an eviction, which
therefore makes room for many at once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import Enum

from chain import accounts
from chain.chain import Outcome
from chain.errors import BadTransaction, Ignore, Invalid, Missing, NotApplicable
from chain.ledger import apply_transaction, begin
from chain.rules import BlockContext, Rules
from chain.state import Overlay, StateView
from chain.types import Kind, Transaction

_PRIORITY_KINDS = frozenset({Kind.BEACON, Kind.REVEAL})
_BLOCK_RESERVE = 4096  # bytes of a block that header and coinbase may need
_RATE_SCALE = 1 << 20
_EVICTED_PART = 16  # an eviction makes room for one sixteenth of the pool


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """How much a pool holds.

    `nonce_gap`: how far ahead of the sender's next nonce a transaction may be. `idle_blocks`: for how many blocks one
    may be in the pool without being ready.
    """

    count: int = 5000
    size: int = 16 << 20
    per_sender: int = 64
    nonce_gap: int = 16
    idle_blocks: int = 6


class Standing(Enum):
    """Whether a pooled transaction can go into the next block."""

    READY = "ready"
    PARKED = "parked"  # an earlier nonce of the sender is not here
    WAITING = "waiting"  # facts are missing


@dataclass(slots=True)
class _Entry:
    transaction: Transaction
    address: bytes
    rate: int
    standing: Standing
    missing: tuple[object, ...] = ()
    idle_since: int | None = None  # height of the next block when it was first seen not ready

    @property
    def rank(self) -> tuple[int, int]:
        """What eviction goes by, the lowest first: only what is ready is sure to pay its fee."""
        if self.standing is not Standing.READY:
            return 0, 0
        return (2 if self.transaction.kind in _PRIORITY_KINDS else 1), self.rate


class Mempool:
    """Pool of transactions in order of fee per byte, and of nonce within one sender."""

    def __init__(self, rules: Rules, limits: MempoolLimits | None = None) -> None:
        self.rules = rules
        self.limits = limits if limits is not None else MempoolLimits()
        self.size = 0
        self._entries: dict[bytes, _Entry] = {}  # in the order in which they apply to the scratch overlay
        self._senders: dict[bytes, dict[int, _Entry]] = {}
        self._scratch: Overlay | None = None
        self._context: BlockContext | None = None
        self._floor: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._entries

    def get(self, transaction_id: bytes) -> Transaction | None:
        """A pooled transaction."""
        entry = self._entries.get(transaction_id)
        return None if entry is None else entry.transaction

    def standing(self, transaction_id: bytes) -> Standing | None:
        """Whether a pooled transaction can go into the next block."""
        entry = self._entries.get(transaction_id)
        return None if entry is None else entry.standing

    def transactions(self) -> list[Transaction]:
        """Everything in the pool, in order of arrival."""
        return [entry.transaction for entry in self._entries.values()]

    def wanted(self) -> set[object]:
        """Facts that pooled transactions wait for."""
        return {fact for entry in self._entries.values() for fact in entry.missing}

    def next_nonce(self, state: StateView, address: bytes) -> int:
        """Nonce that the sender's next transaction should have, after those in the pool."""
        nonce = accounts.account(state, address).nonce
        queue = self._senders.get(address, {})
        while nonce in queue:
            nonce += 1
        return nonce

    def add(self, transaction: Transaction, state: StateView, context: BlockContext) -> None:
        """Take a transaction, given the tip's state and the context of the next block.

        Raises Invalid where it does not belong here, Missing where facts must be established first.
        """
        if transaction.id in self._entries:
            raise Ignore("the transaction is in the pool already", "known")
        self._check_form(transaction)
        scratch = self._refresh(state, context)
        sender = accounts.account(scratch, transaction.address)
        self._check_place(transaction, sender)
        entry = _Entry(transaction, transaction.address, _rate(transaction), Standing.READY)
        if transaction.nonce != sender.nonce:
            entry.standing = Standing.PARKED
        self._check_room(entry)
        transaction.check_signature(self.rules.network)
        if entry.standing is Standing.READY:
            apply_transaction(self.rules, scratch, context, transaction, len(self._entries) + 1)
        self._insert(entry)
        if entry.standing is Standing.READY:
            self._settle(entry, scratch, context, self._senders[entry.address])
        self._evict()

    def on_tip(self, outcome: Outcome, state: StateView, context: BlockContext) -> None:
        """Follow a change of tip: drop what was included, take back what was undone, judge everything again."""
        included = {transaction.id for block in outcome.connected for transaction in block.transactions}
        for transaction_id in included:
            self._remove(transaction_id)
        waiting = list(self._entries.values())
        self._clear()
        for block in reversed(outcome.disconnected):
            for transaction in block.transactions[1:]:
                if transaction.id not in included:
                    self._insert(_Entry(transaction, transaction.address, _rate(transaction), Standing.PARKED))
        for entry in waiting:
            if entry.transaction.nonce not in self._senders.get(entry.address, {}):
                self._insert(entry)
        self._scratch = None
        self._refresh(state, context)
        self._expire(context.height)
        self._evict()

    def _expire(self, height: int) -> None:
        """Drop what has long waited for an earlier nonce or for facts: it stands in its sender's way."""
        for entry in list(self._entries.values()):
            if entry.standing is Standing.READY:
                entry.idle_since = None
            elif entry.idle_since is None:
                entry.idle_since = height
            elif height - entry.idle_since > self.limits.idle_blocks:
                self._remove(entry.transaction.id)

    def candidates(self) -> list[Transaction]:
        """What the next block should take, best first: protocol transactions, then by fee per byte."""
        heap: list[tuple[int, int, bytes, int]] = []
        queues: dict[bytes, list[tuple[int, int, Transaction]]] = {}
        for address, queue in self._senders.items():
            ready = self._ready(queue)
            if ready:
                queues[address] = ready
                heap.append((-ready[0][0], -ready[0][1], address, 0))
        heapq.heapify(heap)
        chosen: list[Transaction] = []
        while heap:
            _, _, address, position = heap[0]
            ready = queues[address]
            chosen.append(ready[position][2])
            position += 1
            if position < len(ready):
                heapq.heapreplace(heap, (-ready[position][0], -ready[position][1], address, position))
            else:
                heapq.heappop(heap)
        return chosen

    def _ready(self, queue: dict[int, _Entry]) -> list[tuple[int, int, Transaction]]:
        """A sender's ready transactions in order of nonce, with class and rate.

        What stands before a protocol transaction takes its class: otherwise it would hold it up.
        """
        found: list[tuple[int, int, Transaction]] = []
        best = 0
        for nonce in sorted(queue, reverse=True):
            entry = queue[nonce]
            if entry.standing is Standing.READY:
                best = max(best, entry.rank[0])
                found.append((best, entry.rate, entry.transaction))
        found.reverse()
        return found

    def _check_form(self, transaction: Transaction) -> None:
        if transaction.kind == Kind.COINBASE:
            raise BadTransaction("a coinbase belongs in a block", "loose_coinbase")
        if len(transaction.raw) > self.rules.parameters.max_block_bytes - _BLOCK_RESERVE:
            raise BadTransaction(f"{len(transaction.raw)} bytes do not fit into a block", "too_large")
        least = self.rules.minimum_fee(transaction)
        if transaction.fee < least:
            raise BadTransaction(f"fee {transaction.fee} is below {least}", "fee_too_low")

    def _check_place(self, transaction: Transaction, sender: accounts.Account) -> None:
        """Check the nonce against the sender's account with its pooled transactions applied."""
        queue = self._senders.get(transaction.address, {})
        if transaction.nonce in queue:
            raise Ignore(f"another transaction with nonce {transaction.nonce} is in the pool", "nonce_taken")
        if transaction.nonce < sender.nonce:
            raise NotApplicable(f"nonce {transaction.nonce}, the account is at {sender.nonce}", "nonce_too_low")
        if transaction.nonce > sender.nonce + self.limits.nonce_gap:
            raise NotApplicable(f"nonce {transaction.nonce}, the account is at {sender.nonce}", "nonce_too_high")
        if sender.balance < transaction.fee:
            raise NotApplicable(f"balance {sender.balance} does not cover the fee", "insufficient_balance")
        if len(queue) >= self.limits.per_sender:
            raise Ignore(f"the sender has {len(queue)} transactions in the pool", "sender_full")

    def _is_full(self, extra_count: int = 0, extra_size: int = 0) -> bool:
        return len(self._entries) + extra_count > self.limits.count or self.size + extra_size > self.limits.size

    def _check_room(self, entry: _Entry) -> None:
        if not self._is_full(1, len(entry.transaction.raw)):
            return
        if self._floor is None:
            self._floor = min((other.rank for other in self._entries.values()), default=(0, 0))
        if entry.rank <= self._floor:
            raise Ignore("the pool is full and the fee per byte is not above the lowest there", "pool_full")

    def _insert(self, entry: _Entry) -> None:
        self._entries[entry.transaction.id] = entry
        self._senders.setdefault(entry.address, {})[entry.transaction.nonce] = entry
        self.size += len(entry.transaction.raw)
        self._floor = None

    def _remove(self, transaction_id: bytes) -> None:
        entry = self._entries.pop(transaction_id, None)
        if entry is None:
            return
        self.size -= len(entry.transaction.raw)
        queue = self._senders[entry.address]
        del queue[entry.transaction.nonce]
        if not queue:
            del self._senders[entry.address]
        self._floor = None

    def _clear(self) -> None:
        self._entries, self._senders, self.size, self._floor = {}, {}, 0, None

    def _evict(self) -> None:
        """Where the pool is too full, drop its lowest sixteenth, each with the sender's later nonces."""
        if not self._is_full():
            return
        count = self.limits.count - self.limits.count // _EVICTED_PART
        size = self.limits.size - self.limits.size // _EVICTED_PART
        for entry in sorted(self._entries.values(), key=lambda entry: entry.rank):
            if len(self._entries) <= count and self.size <= size:
                break
            queue = self._senders.get(entry.address, {})
            for nonce in [nonce for nonce in queue if nonce >= entry.transaction.nonce]:
                self._remove(queue[nonce].transaction.id)
        self._scratch = None

    def _refresh(self, state: StateView, context: BlockContext) -> Overlay:
        """The scratch overlay for `context`; built anew where it is of another block."""
        if self._scratch is not None and self._context == context and self._scratch.base is state:
            return self._scratch
        scratch = Overlay(state)
        begin(self.rules, scratch, context)
        earlier: dict[bytes, dict[int, _Entry]] = {}
        for entry in self._entries.values():
            entry.standing, entry.missing = Standing.PARKED, ()
        for entry in list(self._entries.values()):
            nonce = accounts.account(scratch, entry.address).nonce
            if entry.transaction.nonce < nonce:
                self._remove(entry.transaction.id)
            elif entry.transaction.nonce > nonce:
                earlier.setdefault(entry.address, {})[entry.transaction.nonce] = entry
            elif self._try(entry, scratch, context):
                self._settle(entry, scratch, context, earlier.get(entry.address, {}))
        self._scratch, self._context = scratch, context
        return scratch

    def _settle(self, entry: _Entry, scratch: Overlay, context: BlockContext, queue: dict[int, _Entry]) -> None:
        """Apply what was parked in `queue` behind `entry`."""
        nonce = entry.transaction.nonce + 1
        while (follower := queue.get(nonce)) is not None and self._try(follower, scratch, context):
            nonce += 1

    def _try(self, entry: _Entry, scratch: Overlay, context: BlockContext) -> bool:
        """Apply a pooled transaction and note how it stands; drop it where it does not apply."""
        try:
            apply_transaction(self.rules, scratch, context, entry.transaction, len(self._entries) + 1)
        except Missing as error:
            entry.standing, entry.missing = Standing.WAITING, error.facts
            return False
        except Invalid:
            self._remove(entry.transaction.id)
            return False
        entry.standing = Standing.READY
        self._floor = None
        return True


def _rate(transaction: Transaction) -> int:
    return transaction.fee * _RATE_SCALE // len(transaction.raw)
