"""What a block does to the accounts."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import accounts
from chain.errors import BadBlock, BadCoinbase, BadEncoding, BadSignature, BadTransaction, Invalid
from chain.ledger import apply_block, check_stateless
from chain.state import Overlay
from chain.types import (
    Block,
    CoinbaseBody,
    Kind,
    Output,
    Transaction,
    TransferBody,
    coinbase_transaction,
    sign_transaction,
)
from tests.chain.builder import Builder, DictState, remint
from tests.chain.rules import MINTERS, NETWORK, PARAMETERS, START, USERS, TestRules, transfer

ALICE, BOB, CAROL, _ = USERS


def total(state):
    """Sum of all balances."""
    found = [value for key, value in state.items() if key.startswith(accounts.ACCOUNT)]
    return sum(accounts.Account.decode(value).balance for value in found)


def balance(state, address):
    return accounts.account(DictState(state), address).balance


def grow(builder, blocks, *transactions):
    """Mint `blocks` blocks, the first with `transactions`; returns the last."""
    header = builder.genesis
    for slot in range(1, blocks + 1):
        block = builder.mint(header, slot, list(transactions) if slot == 1 else [])
        header = block.header
    return block


def judge(builder, block):
    """Check and apply a block whose parent the builder knows."""
    check_stateless(builder.rules, block)
    state = Overlay(DictState(builder.states[block.header.parent]))
    apply_block(builder.rules, builder.genesis, state, block)


def test_transfer_moves_amount_and_fee(builder):
    block = grow(builder, 1, transfer(ALICE, 0, BOB.address, 100, fee=300))
    state = builder.states[block.id]
    assert balance(state, ALICE.address) == START - 400
    assert balance(state, BOB.address) == START + 100
    assert accounts.account(DictState(state), ALICE.address).nonce == 1
    judge(builder, block)


def test_coinbase_matures(builder):
    header = builder.genesis
    minter = MINTERS[1].address
    for slot in (1, 3, 5):
        header = builder.mint(header, slot, []).header
        assert balance(builder.states[header.id], minter) == 0
    state = builder.states[builder.mint(header, 7, []).id]
    assert balance(state, minter) == PARAMETERS.subsidy * 3 // 4
    assert balance(state, accounts.IMMATURE) == 3 * PARAMETERS.subsidy


def test_immature_coins_cannot_be_spent(builder):
    header = grow(builder, 2).header
    spend = transfer(MINTERS[1], 0, BOB.address, 1)
    assert len(builder.mint(header, 3, [spend]).transactions) == 1
    header = builder.mint(header, 3, []).header
    assert len(builder.mint(header, 4, [spend]).transactions) == 2


@pytest.mark.parametrize(
    ("transaction", "code"),
    [
        (transfer(ALICE, 1, BOB.address, 1), "nonce_too_high"),
        (transfer(ALICE, 0, BOB.address, START), "insufficient_balance"),
        (transfer(CAROL, 0, BOB.address, 1, fee=START + 1), "insufficient_balance"),
        (transfer(ALICE, 0, BOB.address, 1, fee=10), "fee_too_low"),
        (sign_transaction(ALICE, NETWORK, Kind.TRANSFER, 0, 400, CoinbaseBody(1, ())), "bad_encoding"),
        (sign_transaction(ALICE, NETWORK, Kind.EVIDENCE, 0, 400, CoinbaseBody(1, ())), "unknown_kind"),
    ],
)
def test_a_transaction_that_does_not_apply_makes_the_block_bad(builder, transaction, code):
    good = grow(builder, 1)
    with pytest.raises(BadBlock) as caught:
        judge(builder, remint(good, (good.transactions[0], transaction)))
    assert caught.value.code == code
    assert len(grow(builder, 1, transaction).transactions) == 1, "a draft leaves it out"


def test_replay_of_a_transaction(builder):
    once = transfer(ALICE, 0, BOB.address, 1)
    good = grow(builder, 1, once)
    with pytest.raises(BadBlock) as caught:
        judge(builder, remint(good, (*good.transactions, once)))
    assert caught.value.code == "nonce_too_low"


def coinbase_of(block):
    return CoinbaseBody.decode(block.transactions[0].body)


def with_outputs(block, *outputs):
    return remint(block, (coinbase_transaction(block.header.height, outputs), *block.transactions[1:]))


@pytest.mark.parametrize("by", [1, -1])
def test_coinbase_one_unit_off(builder, by):
    good = grow(builder, 1, transfer(ALICE, 0, BOB.address, 100))
    first, second = coinbase_of(good).outputs
    with pytest.raises(BadCoinbase) as caught:
        judge(builder, with_outputs(good, dataclasses.replace(first, amount=first.amount + by), second))
    assert caught.value.code == "coinbase_amount"


def test_coinbase_that_leaves_the_payout_table(builder):
    good = grow(builder, 1)
    first, second = coinbase_of(good).outputs
    cheats = (
        (Output(first.address, first.amount + 1), Output(second.address, second.amount - 1)),
        (Output(first.address, first.amount + second.amount),),
        (second, first),
        (Output(BOB.address, first.amount), second),
    )
    for outputs in cheats:
        with pytest.raises(BadCoinbase) as caught:
            judge(builder, with_outputs(good, *outputs))
        assert caught.value.code == "coinbase_payout"


def test_coinbase_of_another_height(builder):
    good = grow(builder, 1)
    with pytest.raises(BadCoinbase) as caught:
        judge(builder, remint(good, (coinbase_transaction(2, coinbase_of(good).outputs),)))
    assert caught.value.code == "coinbase_height"


def test_form_of_a_block(builder):
    good = grow(builder, 1, transfer(ALICE, 0, BOB.address, 100))
    coinbase, payment = good.transactions
    forged = dataclasses.replace(payment, fee=payment.fee + 1)
    cases = [
        (remint(good, ()), BadBlock, "no_coinbase"),
        (remint(good, (payment,)), BadBlock, "no_coinbase"),
        (remint(good, (coinbase, coinbase)), BadBlock, "two_coinbases"),
        (remint(good, good.transactions, version=2), BadBlock, "bad_version"),
        (Block(good.header, (coinbase,)), BadBlock, "bad_transactions_root"),
        (Block(dataclasses.replace(good.header, slot=3), good.transactions), BadSignature, "bad_signature"),
        (remint(good, (coinbase, forged)), BadSignature, "bad_signature"),
        (remint(good, (dataclasses.replace(coinbase, fee=1), payment)), BadTransaction, "bad_transaction"),
    ]
    for block, kind, code in cases:
        with pytest.raises(kind) as caught:
            check_stateless(builder.rules, block)
        assert caught.value.code == code


def test_signatures_that_were_verified_are_not_verified_again(builder):
    good = grow(builder, 1, transfer(ALICE, 0, BOB.address, 100))
    forged = dataclasses.replace(good.transactions[1], signature=bytes(64))
    block = remint(good, (good.transactions[0], forged))
    check_stateless(builder.rules, block, {forged.id})
    for verified in ((), {good.transactions[1].id}):  # the id covers the signature
        with pytest.raises(BadSignature):
            check_stateless(builder.rules, block, verified)


def test_a_block_over_the_size_limit(builder):
    builder.rules.parameters = dataclasses.replace(PARAMETERS, max_block_bytes=300)
    with pytest.raises(BadBlock) as caught:
        check_stateless(builder.rules, grow(builder, 1))
    assert caught.value.code == "too_large"


def test_links(builder):
    good = grow(builder, 1)
    for changes, code in (
        ({"height": 2}, "bad_parent"),
        ({"parent": bytes(32)}, "bad_parent"),
        ({"slot": 0}, "bad_slot"),
        ({"minter": ALICE.public}, "not_leader"),
    ):
        header = dataclasses.replace(good.header, **changes)
        state = Overlay(DictState(builder.states[builder.genesis.id]))
        with pytest.raises(BadBlock) as caught:
            apply_block(builder.rules, builder.genesis, state, Block(header, good.transactions))
        assert caught.value.code == code


def test_halving():
    assert PARAMETERS.subsidy_at(1) == PARAMETERS.subsidy_at(50) == 5000
    assert PARAMETERS.subsidy_at(51) == 2500
    assert PARAMETERS.subsidy_at(50 * 64 + 1) == 0


@st.composite
def payments(draw):
    user = draw(st.integers(0, 3))
    target = draw(st.sampled_from([key.address for key in (*USERS, *MINTERS)] + [accounts.IMMATURE]))
    return (
        user,
        target,
        draw(st.sampled_from([0, 1, 1000, START // 2, START])),
        draw(st.sampled_from([300, 5000, START])),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(payments(), max_size=4), min_size=1, max_size=8))
def test_supply_is_the_sum_of_all_balances(plan):
    builder = Builder(TestRules())
    header = builder.genesis
    for slot, entries in enumerate(plan, start=1):
        view = DictState(builder.states[header.id])
        nonces = {user: accounts.account(view, USERS[user].address).nonce for user in range(4)}
        transactions = []
        for user, target, amount, fee in entries:
            transactions.append(transfer(USERS[user], nonces[user], target, amount, fee))
            nonces[user] += 1
        block = builder.mint(header, slot, transactions)
        state = builder.states[block.id]
        assert total(state) == accounts.supply(DictState(state)) == START * 4 + PARAMETERS.subsidy * slot
        header = block.header


def test_money_to_oneself(builder):
    block = grow(builder, 1, transfer(ALICE, 0, ALICE.address, 1000, fee=300))
    assert balance(builder.states[block.id], ALICE.address) == START - 300


def test_outputs_that_add_up_to_too_much(builder):
    half = START * 2 // 3
    body = TransferBody((Output(BOB.address, half), Output(CAROL.address, half)))
    transaction = sign_transaction(ALICE, NETWORK, Kind.TRANSFER, 0, 400, body)
    block = grow(builder, 1, transaction)
    assert len(block.transactions) == 1
    assert balance(builder.states[block.id], BOB.address) == START, "all or nothing"


def test_any_body_is_refused_with_a_typed_error(builder):
    good = grow(builder, 1)
    for body in (b"", b"\x91\x90", b"\xff" * 20, b"\x91\x91\x92\xc4\x14" + bytes(20) + b"\xcf" + b"\xff" * 8):
        draft = Transaction(int(Kind.TRANSFER), ALICE.public, 0, 400, body, bytes(64))
        signed = dataclasses.replace(draft, signature=ALICE.sign(draft.signed_message(NETWORK)))
        with pytest.raises(BadEncoding):
            TransferBody.decode(body)
        with pytest.raises(Invalid):
            judge(builder, remint(good, (good.transactions[0], signed)))
