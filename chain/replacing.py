"""What it takes to replace a pooled transaction by another of the same sender and nonce.

Others may need what the replaced one paid without having used it up: a payment to oneself only has to be covered, and
two senders may send the same coins to each other. So it is not enough that the money is still there. It is taken back
only where everyone who was paid can do without any money from the pool: then their payments stay, and so does what
depends on these.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain.errors import Ignore, Invalid
from chain.ledger import apply_transaction, undo_transfer
from chain.rules import BlockContext, Rules
from chain.state import Overlay
from chain.waiting import Entry, Standing, Waiting

_RAISE = 10  # a replacement pays at least one tenth more
_MOST_BYTES = 32 << 10  # of transactions that are undone or judged for one replacement


def check_raise(entry: Entry, replaced: Entry, minimum: int) -> None:
    """A replacement pays its own minimum fee on top of a tenth more than what it replaces, and a tenth more per byte.

    Raises Ignore where it does not.
    """
    old = replaced.transaction.fee
    least = old + -(-old // _RAISE) + max(1, minimum)
    if entry.transaction.fee < least or entry.rate * _RAISE < replaced.rate * (_RAISE + 1):
        message = f"another transaction with nonce {entry.nonce} is in the pool, a replacement pays {least} or more"
        raise Ignore(message, "nonce_taken")


def take_back(
    rules: Rules, context: BlockContext, waiting: Waiting, entries: Sequence[Entry], start: Overlay, scratch: Overlay
) -> Overlay:
    """The state of `scratch` without `entries`, the last ready ones of one sender in order of nonce; there may be none.

    `start` is the state at the start of the block. Raises Ignore where others in the pool may need what they paid.
    """
    trial = Overlay(scratch)
    room = _MOST_BYTES - sum(entry.size for entry in entries)
    if room >= 0 and all(undo_transfer(trial, entry.transaction) for entry in reversed(entries)):
        payees = {payee for entry in entries for payee, _ in entry.transaction.payments}
        payees -= {entry.address for entry in entries}
        if _can_do_without(rules, context, waiting, payees, start, room):
            return trial
    raise Ignore(f"nonce {entries[0].nonce} is taken by what other transactions in the pool build on", "nonce_taken")


def _can_do_without(
    rules: Rules, context: BlockContext, waiting: Waiting, senders: set[bytes], start: Overlay, room: int
) -> bool:
    """Whether the ready transactions of each sender apply on `start` by themselves; False for over `room` bytes."""
    for address in senders:
        queue = waiting.queue(address)
        ready = [queue[nonce] for nonce in sorted(queue) if queue[nonce].standing is Standing.READY]
        room -= sum(entry.size for entry in ready)
        if room < 0:
            return False
        alone = Overlay(start)
        try:
            for entry in ready:
                apply_transaction(rules, alone, context, entry.transaction, len(waiting))
        except Invalid:
            return False
    return True
