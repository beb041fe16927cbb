"""Applying a block to a state. Pure: the change is written to an overlay, or a typed error is raised.

Source: protocol L6 to L10.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from chain import accounts, immature
from chain.deadline import Deadline
from chain.errors import BadBlock, BadCoinbase, BadTransaction, Invalid, Missing, NotApplicable
from chain.keys import verify_all
from chain.rules import BlockContext, Rules
from chain.state import Overlay, StateView
from chain.types import (
    MAX_BLOCK_TRANSACTIONS,
    MAX_COINBASE_OUTPUTS,
    MIN_TRANSACTION,
    VERSION,
    Block,
    CoinbaseBody,
    Header,
    Kind,
    Output,
    Payment,
    Transaction,
    coinbase_transaction,
    transactions_root,
)


def context_of(header: Header) -> BlockContext:
    """The context in which the block of `header` is applied."""
    return BlockContext(header.height, header.slot, header.parent, header.seat)


def check_stateless(rules: Rules, block: Block, verified: Container[bytes] = ()) -> None:
    """Everything about a block that needs no state: form, size, roots, signatures.

    `verified`: ids of transactions whose signatures are known to be right; an id covers the signature.
    """
    check_form(rules, block)
    block.header.check_signature(rules.network)
    unknown = [transaction for transaction in block.transactions[1:] if transaction.id not in verified]
    verify_all([_signed(rules, transaction) for transaction in unknown])


def signatures(rules: Rules, block: Block) -> list[tuple[bytes, bytes, bytes]]:
    """Public key, signature and message of the header and of every transaction that has one."""
    network, header = rules.network, block.header
    return [
        (header.minter, header.signature, header.signed_message(network)),
        *[_signed(rules, transaction) for transaction in block.transactions[1:]],
    ]


def _signed(rules: Rules, transaction: Transaction) -> tuple[bytes, bytes, bytes]:
    return transaction.sender, transaction.signature, transaction.signed_message(rules.network)


def check_form(rules: Rules, block: Block) -> None:
    """Everything about a block that needs neither state nor a look at signatures."""
    header = block.header
    if header.version != VERSION:
        raise BadBlock(f"block version {header.version}, expected {VERSION}", "bad_version")
    if len(block.raw) > rules.parameters.max_block_bytes:
        raise BadBlock(f"block of {len(block.raw)} bytes, the limit is {rules.parameters.max_block_bytes}", "too_large")
    if not block.transactions or block.transactions[0].kind != Kind.COINBASE:
        raise BadBlock("the first transaction of a block is its coinbase", "no_coinbase")
    if any(transaction.kind == Kind.COINBASE for transaction in block.transactions[1:]):
        raise BadBlock("a block has one coinbase", "two_coinbases")
    if transactions_root(block.transactions) != header.transactions_root:
        raise BadBlock("the transactions root does not fit the transactions", "bad_transactions_root")
    block.transactions[0].check_signature(rules.network)


def begin(rules: Rules, state: Overlay, context: BlockContext) -> None:
    """What happens at the start of a block: old coinbase outputs mature, then time-driven rules run."""
    matured = context.height - rules.parameters.coinbase_maturity
    if matured > 0:
        immature.mature(state, matured)
    rules.begin_block(state, context)


def apply_transaction(
    rules: Rules, state: Overlay, context: BlockContext, transaction: Transaction, index: int
) -> None:
    """Apply one signed transaction other than a coinbase, all or nothing.

    Raises an Invalid: NotApplicable where nonce, balance or phase do not fit, Missing where facts are needed first.
    """
    address, fee = transaction.address, transaction.fee
    least = rules.minimum_fee(transaction)
    if fee < least:
        raise BadTransaction(f"fee {fee} is below {least}", "fee_too_low")
    balance, nonce = accounts.held(state, address)
    if transaction.nonce != nonce:
        code = "nonce_too_low" if transaction.nonce < nonce else "nonce_too_high"
        raise NotApplicable(f"nonce {transaction.nonce}, the account is at {nonce}", code)
    if balance < fee:
        raise NotApplicable(f"balance {balance} does not cover the fee", "insufficient_balance")
    if transaction.kind == Kind.TRANSFER:
        _transfer(state, address, balance - fee, nonce + 1, transaction.payments)
        return
    trial = Overlay(state)
    accounts.write(trial, address, balance - fee, nonce + 1)
    missing = rules.apply(trial, context, transaction, index)
    if missing:
        raise Missing(missing)
    trial.merge_into(state)


def _transfer(state: Overlay, address: bytes, balance: int, nonce: int, payments: tuple[Payment, ...]) -> None:
    """Make `payments` one after another from the sender's `balance`; nothing is written where it does not suffice."""
    for payee, amount in payments:
        after = accounts.left(balance, amount)
        if payee != address:
            balance = after
    accounts.write(state, address, balance, nonce)
    for payee, amount in payments:
        if payee != address:
            accounts.credit(state, payee, amount)


def undo_transfer(state: Overlay, transaction: Transaction) -> bool:
    """Take back the last transaction of its sender; False, the state to be thrown away, where that cannot be done.

    It cannot where it is no transfer, or where what it paid has been spent.
    """
    if transaction.kind != Kind.TRANSFER:
        return False
    address, returned = transaction.address, transaction.fee
    for payee, amount in transaction.payments:
        if payee != address:
            balance, nonce = accounts.held(state, payee)
            if balance < amount:
                return False
            accounts.write(state, payee, balance - amount, nonce)
            returned += amount
    balance, nonce = accounts.held(state, address)
    accounts.write(state, address, balance + returned, nonce - 1)
    return True


def apply_block(rules: Rules, parent: Header, state: Overlay, block: Block) -> None:
    """Apply a block that passed `check_stateless` to the state after its parent, all but the check of the state root.

    Raises an Invalid; the state must then be thrown away. Missing names every fact that the block needs.
    """
    header = block.header
    if header.parent != parent.id or header.height != parent.height + 1:
        raise BadBlock("the block does not follow its parent", "bad_parent")
    if header.slot <= parent.slot:
        raise BadBlock(f"slot {header.slot} is not after the parent's {parent.slot}", "bad_slot")
    rules.check_header(state, parent, header)
    context = context_of(header)
    begin(rules, state, context)
    missing: list[object] = []
    fees = 0
    for index, transaction in enumerate(block.transactions[1:], start=1):
        try:
            apply_transaction(rules, state, context, transaction, index)
        except Missing as error:
            missing.extend(error.facts)
        except Invalid as error:
            if missing:
                break  # may follow from what is missing: judge again when the facts are known
            raise BadBlock(f"transaction {index}: {error}", error.code) from error
        fees += transaction.fee
    if missing:
        raise Missing(tuple(missing))
    _apply_coinbase(rules, state, context, block.transactions[0], fees)


def _apply_coinbase(rules: Rules, state: Overlay, context: BlockContext, coinbase: Transaction, fees: int) -> None:
    outputs = _settle_coinbase(rules, state, context, fees)
    if coinbase.body == CoinbaseBody(context.height, outputs).encode():
        return
    body = CoinbaseBody.decode(coinbase.body)
    if body.height != context.height:
        raise BadCoinbase("the coinbase names another height", "coinbase_height")
    paid, due = sum(o.amount for o in body.outputs), sum(o.amount for o in outputs)
    if paid != due:
        raise BadCoinbase(f"the coinbase pays {paid}, due is {due}", "coinbase_amount")
    raise BadCoinbase("the coinbase does not follow the payout table", "coinbase_payout")


def _settle_coinbase(rules: Rules, state: Overlay, context: BlockContext, fees: int) -> tuple[Output, ...]:
    """Book what the coinbase of this block pays; returns its outputs."""
    plan = rules.coinbase(state, context, fees)
    outputs = plan.outputs
    if len(outputs) > MAX_COINBASE_OUTPUTS:
        raise RuntimeError(f"coinbase of {len(outputs)} outputs: a fault in the rules")
    total = sum(output.amount for output in outputs)
    if total != plan.minted + plan.released + fees:
        raise RuntimeError(f"coinbase of {total} is not {plan.minted} + {plan.released} + {fees}: a fault in the rules")
    accounts.change_supply(state, plan.minted)
    immature.book(state, context.height, plan.parts)
    return outputs


@dataclass(frozen=True, slots=True)
class Draft:
    """A block's transactions, coinbase first, and the state after them; the header is still to be made."""

    transactions: tuple[Transaction, ...]
    state: Overlay


def draft_block(
    rules: Rules,
    state: StateView,
    context: BlockContext,
    candidates: Iterable[Transaction],
    most_bytes: int,
    deadline: Deadline | None = None,
) -> Draft:
    """Choose from `candidates`, in order, what applies; add the coinbase. Never raises for a bad candidate.

    Candidates are looked at until the block is full or `deadline` has passed.
    """
    overlay = Overlay(state)
    begin(rules, overlay, context)
    chosen: list[Transaction] = []
    used = 0
    for transaction in candidates:
        if len(chosen) == MAX_BLOCK_TRANSACTIONS - 1 or most_bytes - used < MIN_TRANSACTION:
            break
        if deadline is not None and deadline.has_passed:
            break
        if used + len(transaction.raw) > most_bytes:
            continue
        try:
            apply_transaction(rules, overlay, context, transaction, len(chosen) + 1)
        except Invalid:
            continue
        chosen.append(transaction)
        used += len(transaction.raw)
    outputs = _settle_coinbase(rules, overlay, context, sum(transaction.fee for transaction in chosen))
    coinbase = coinbase_transaction(context.height, outputs)
    return Draft((coinbase, *chosen), overlay)
