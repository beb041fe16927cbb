"""Transactions that wait for a block. No time, no network: state and context come in as arguments.

Every transaction is judged by applying it to a scratch overlay: the tip's state at the start of the next block with the
pool's other transactions applied. The overlay is built anew when tip or slot change, and after an eviction, which
therefore makes room for many at once. The rules of the pool stand in docs/mempool.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from chain import accounts
from chain.chain import Outcome
from chain.errors import BadTransaction, Ignore, Invalid, Missing, NotApplicable
from chain.ledger import apply_transaction, begin
from chain.replacing import check_raise, take_back
from chain.room import MempoolLimits, is_full
from chain.rules import BlockContext, Rules
from chain.state import EmptyState, Overlay, StateView
from chain.types import Kind, Transaction
from chain.waiting import Entry, Standing, Waiting

__all__ = ["Mempool", "MempoolLimits", "Standing"]

_BLOCK_RESERVE = 4096  # bytes of a block that header and coinbase may need
_EVICTED_PART = 16  # an eviction makes room for one sixteenth of the pool


class Mempool:
    """Pool of transactions in order of fee per byte, and of nonce within one sender."""

    def __init__(self, rules: Rules, limits: MempoolLimits | None = None) -> None:
        self.rules = rules
        self.limits = limits if limits is not None else MempoolLimits()
        self._waiting = Waiting()
        self._start = Overlay(EmptyState())  # the tip's state at the start of the next block
        self._scratch: Overlay | None = None  # and with the pool's transactions applied
        self._context: BlockContext | None = None
        self._floor: tuple[int, int] | None = None  # least rank in the pool, where known

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, transaction_id: object) -> bool:
        return isinstance(transaction_id, bytes) and self._waiting.get(transaction_id) is not None

    @property
    def size(self) -> int:
        """Canonical bytes of all pooled transactions."""
        return self._waiting.size

    @property
    def ready(self) -> int:
        """How many could go into the next block."""
        return self._waiting.ready

    def get(self, transaction_id: bytes) -> Transaction | None:
        """A pooled transaction."""
        entry = self._waiting.get(transaction_id)
        return None if entry is None else entry.transaction

    def standing(self, transaction_id: bytes) -> Standing | None:
        """Whether a pooled transaction can go into the next block."""
        entry = self._waiting.get(transaction_id)
        return None if entry is None else entry.standing

    def transactions(self) -> list[Transaction]:
        """Everything in the pool, in order of arrival."""
        return [entry.transaction for entry in self._waiting.entries()]

    def best_first(self) -> Iterator[Transaction]:
        """Ready ones: the protocol's, then by fee per byte. The pool must not change while they are taken."""
        return self._waiting.best_first()

    def wanted(self) -> set[object]:
        """Facts that pooled transactions wait for."""
        return {fact for entry in self._waiting.entries() for fact in entry.missing}

    def next_nonce(self, state: StateView, address: bytes) -> int:
        """Nonce that the sender's next transaction should have, after those in the pool."""
        nonce = accounts.account(state, address).nonce
        queue = self._waiting.queue(address)
        while nonce in queue:
            nonce += 1
        return nonce

    def add(self, transaction: Transaction, state: StateView, context: BlockContext) -> None:
        """Take a transaction, given the tip's state and the context of the next block.

        Raises Invalid where it does not belong here, Missing where facts must be established first.
        """
        if transaction.id in self:
            raise Ignore("the transaction is in the pool already", "known")
        self._check_form(transaction)
        scratch = self._refit(state, context)
        entry = Entry(transaction, context.height)
        replaced = self._waiting.queue(entry.address).get(entry.nonce)
        if replaced is not None:
            check_raise(entry, replaced, self.rules.minimum_fee(transaction))
            transaction.check_signature(self.rules.network)
            self._replace(entry, replaced, scratch, context)
        else:
            sender = accounts.account(scratch, entry.address)
            self._check_place(entry, sender)
            if entry.nonce == sender.nonce:
                entry.standing = Standing.READY
            crowded = self._check_room(entry)
            transaction.check_signature(self.rules.network)
            if entry.standing is Standing.READY:
                apply_transaction(self.rules, scratch, context, transaction, len(self) + 1)
            self._insert(entry)
            if entry.standing is Standing.READY:
                self._settle(entry, scratch, context)
            if not crowded:
                return
        self._evict()

    def on_tip(self, outcome: Outcome, state: StateView, context: BlockContext) -> None:
        """Follow a change of tip: drop what was included, take back what was undone, judge everything again."""
        included = {transaction.id for block in outcome.connected for transaction in block.transactions}
        returned = Waiting()
        for block in reversed(outcome.disconnected):
            for transaction in block.transactions[1:]:
                if transaction.id not in included:
                    returned.insert(Entry(transaction, context.height))
        if len(returned):
            # They were applied before what waits here, which may spend what they pay.
            for entry in self._waiting.entries():
                if entry.nonce not in returned.queue(entry.address):
                    returned.insert(entry)
            self._waiting = returned
        for transaction_id in included:
            found = self._waiting.get(transaction_id)
            if found is not None:
                self._remove(found)
        self._scratch = None
        for entry in self._waiting.entries():
            if context.height - entry.height > self.limits.age_blocks:
                self._remove_from(entry)
        self._refresh(state, context)
        self._drop_idle(context.height)
        self._refit(state, context)
        self._waiting.settle()

    def _drop_idle(self, height: int) -> None:
        """Drop what has long waited for an earlier nonce or for facts: it stands in its sender's way."""
        for entry in self._waiting.entries():
            if entry.standing is Standing.READY:
                entry.idle_since = None
            elif entry.idle_since is None:
                entry.idle_since = height
            elif height - entry.idle_since > self.limits.idle_blocks:
                self._remove(entry)

    def _check_form(self, transaction: Transaction) -> None:
        if transaction.kind == Kind.COINBASE:
            raise BadTransaction("a coinbase belongs in a block", "loose_coinbase")
        if len(transaction.raw) > self.rules.parameters.max_block_bytes - _BLOCK_RESERVE:
            raise BadTransaction(f"{len(transaction.raw)} bytes do not fit into a block", "too_large")
        least = self.rules.minimum_fee(transaction)
        if transaction.fee < least:
            raise BadTransaction(f"fee {transaction.fee} is below {least}", "fee_too_low")

    def _check_place(self, entry: Entry, sender: accounts.Account) -> None:
        """Check the nonce against the sender's account with its pooled transactions applied."""
        nonce, fee = entry.nonce, entry.transaction.fee
        if nonce < sender.nonce:
            raise NotApplicable(f"nonce {nonce}, the account is at {sender.nonce}", "nonce_too_low")
        if nonce > sender.nonce + self.limits.nonce_gap:
            raise NotApplicable(f"nonce {nonce}, the account is at {sender.nonce}", "nonce_too_high")
        if sender.balance < fee:
            raise NotApplicable(f"balance {sender.balance} does not cover the fee", "insufficient_balance")
        count = len(self._waiting.queue(entry.address))
        if count >= self.limits.per_sender:
            raise Ignore(f"the sender has {count} transactions in the pool", "sender_full")

    def _replace(self, entry: Entry, replaced: Entry, scratch: Overlay, context: BlockContext) -> None:
        """Take `entry` instead of `replaced`: it arrives last, so it may spend what came since.

        The sender's later ones are applied anew behind it; those that no longer apply are dropped.
        """
        queue = self._waiting.queue(entry.address)
        later = [queue[nonce] for nonce in sorted(queue) if nonce >= entry.nonce]
        applied = [other for other in later if other.standing is Standing.READY]
        trial = take_back(self.rules, context, self._waiting, applied, self._start, scratch)
        sender = accounts.account(trial, entry.address)
        if sender.balance < entry.transaction.fee:
            raise NotApplicable(f"balance {sender.balance} does not cover the fee", "insufficient_balance")
        if entry.nonce == sender.nonce:
            apply_transaction(self.rules, trial, context, entry.transaction, len(self))
            entry.standing = Standing.READY
        trial.merge_into(scratch)
        self._remove(replaced)
        self._insert(entry)
        for other in applied[1:]:
            self._waiting.judge(other, Standing.PARKED)
        if entry.standing is Standing.READY:
            self._settle(entry, scratch, context)
        for other in applied[1:]:
            if other.transaction.id in self and other.standing is not Standing.READY:
                self._remove(other)

    def _check_room(self, entry: Entry) -> bool:
        """Whether something must go for `entry`; raises Ignore where it is not worth it."""
        if not is_full(self._waiting, self.limits, 1, entry.size, is_protocol=entry.is_protocol):
            return False
        if self._floor is None:
            self._floor = min((other.rank for other in self._waiting.entries()), default=(0, 0))
        if entry.rank <= self._floor:
            raise Ignore("the pool is full and the fee per byte is not above the lowest there", "pool_full")
        return True

    def _insert(self, entry: Entry) -> None:
        self._waiting.insert(entry)
        self._floor = None

    def _remove(self, entry: Entry) -> None:
        self._waiting.remove(entry)
        self._floor = None

    def _remove_from(self, entry: Entry) -> None:
        """Remove an entry and its sender's later ones, where they are still here; age and rank choose the first."""
        queue = self._waiting.queue(entry.address)
        for nonce in [nonce for nonce in queue if nonce >= entry.nonce]:
            self._remove(queue[nonce])

    def _evict(self) -> None:
        """Where the pool is too full, drop its lowest sixteenth, each with the sender's later nonces."""
        if not is_full(self._waiting, self.limits):
            return
        for entry in self._waiting.lowest_first():
            if not is_full(self._waiting, self.limits, spare=_EVICTED_PART):
                break
            self._remove_from(entry)
        self._scratch = None

    def _refit(self, state: StateView, context: BlockContext) -> Overlay:
        """The scratch overlay, the pool being within its limits: protocol transactions may have lost their room."""
        scratch = self._refresh(state, context)
        while is_full(self._waiting, self.limits):
            self._evict()
            scratch = self._refresh(state, context)
        return scratch

    def _refresh(self, state: StateView, context: BlockContext) -> Overlay:
        """The scratch overlay for `context`; built anew where it is of another block."""
        if self._scratch is not None and self._context == context and self._scratch.base is state:
            return self._scratch
        start, scratch = Overlay(state), Overlay(state)
        begin(self.rules, start, context)
        scratch.write(start.changes)
        entries = self._waiting.park_all()
        self._floor = None
        for entry in entries:
            if entry.standing is not Standing.PARKED:
                continue
            nonce = accounts.account(scratch, entry.address).nonce
            if entry.nonce < nonce:
                self._remove(entry)
            elif entry.nonce == nonce and self._try(entry, scratch, context):
                self._settle(entry, scratch, context, entry.number)
        self._start, self._scratch, self._context = start, scratch, context
        return scratch

    def _settle(self, entry: Entry, scratch: Overlay, context: BlockContext, before: int | None = None) -> None:
        """Apply what was parked behind `entry`; of that only what came before the arrival numbered `before`, if given.

        What comes later may spend what others pay in between.
        """
        queue, nonce = self._waiting.queue(entry.address), entry.nonce + 1
        while (follower := queue.get(nonce)) is not None:
            if (before is not None and follower.number > before) or not self._try(follower, scratch, context):
                return
            nonce += 1

    def _try(self, entry: Entry, scratch: Overlay, context: BlockContext) -> bool:
        """Apply a pooled transaction and note how it stands; drop it where it does not apply."""
        try:
            apply_transaction(self.rules, scratch, context, entry.transaction, len(self) + 1)
        except Missing as error:
            self._waiting.judge(entry, Standing.WAITING, error.facts)
            return False
        except Invalid:
            self._remove(entry)
            return False
        self._waiting.judge(entry, Standing.READY)
        self._floor = None
        return True
