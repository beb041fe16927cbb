"""Blocks and transactions that break a rule: each refused with its own typed error, the tip untouched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from chain import accounts
from chain.errors import BadBlock, BadCoinbase, BadSignature, BadTransaction, Invalid, NotApplicable, Refuted
from chain.keys import PrivateKey
from chain.ledger import apply_transaction
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import Block, CoinbaseBody, Kind, Output, Transaction, coinbase_transaction, transactions_root
from consensus.types import BeaconBody, CommitBody, Payout, PublishBody, RevealBody
from tests.consensus.world import SPEC, Found, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db")


@pytest.fixture
def revealing(world: World) -> tuple[World, list[Found], Transaction]:
    """Two sealed finds of key 1, the beacon known, reveals open."""
    found = [world.find(1, 150), world.find(2, 160)]
    return world, found, world.sealed({1: found})[1]


def forged(world: World, *transactions: Transaction) -> Block:
    """A block that carries `transactions` although its honest maker would leave them out."""
    world.slot += 1
    block = world.draft()
    carried = (block.transactions[0], *transactions)
    return world.resign(block, transactions=carried, transactions_root=transactions_root(carried))


def refused(world: World, block: Block, error: type[Invalid], code: str) -> None:
    tip = world.chain.tip
    with pytest.raises(error) as caught:
        world.add(block)
    assert caught.value.code == code
    assert world.chain.tip == tip and world.chain.verify() == []


def test_block_with_a_wrong_score(revealing: tuple[World, list[Found], Transaction]) -> None:
    world, found, commit = revealing
    refused(world, forged(world, world.reveal(world.keys[1], commit, found, 0, correct=151)), BadBlock, "wrong_score")


def test_block_with_a_bad_signature(world: World) -> None:
    world.slot += 1
    block = world.draft()
    header = dataclasses.replace(block.header, signature=bytes(64))
    refused(world, Block(header, block.transactions), BadSignature, "bad_signature")


def test_block_with_a_transaction_whose_signature_is_bad(world: World) -> None:
    commit = dataclasses.replace(world.commit(world.keys[1], [world.find(1, 150)]), signature=bytes(64))
    refused(world, forged(world, commit), BadSignature, "bad_signature")


def test_coinbase_one_unit_too_high(world: World) -> None:
    world.slot += 1
    block = world.draft()
    outputs = CoinbaseBody.decode(block.transactions[0].body).outputs
    more = (Output(outputs[0].address, outputs[0].amount + 1), *outputs[1:])
    carried = (coinbase_transaction(block.header.height, more),)
    high = world.resign(block, transactions=carried, transactions_root=transactions_root(carried))
    refused(world, high, BadCoinbase, "coinbase_amount")


def test_payout_that_differs_from_the_table(revealing: tuple[World, list[Found], Transaction]) -> None:
    world, found, commit = revealing
    table = (Payout(bytes([9]) * 20, 2), Payout(bytes([8]) * 20, 1))
    world.mint(world.reveal(world.keys[1], commit, found, 0, payouts=table))
    world.mint_to(16)
    world.mint()
    world.slot += 1
    block = world.draft()
    total = sum(output.amount for output in CoinbaseBody.decode(block.transactions[0].body).outputs)
    carried = (coinbase_transaction(block.header.height, (Output(world.keys[1].address, total),)),)
    greedy = world.resign(block, transactions=carried, transactions_root=transactions_root(carried))
    refused(world, greedy, BadCoinbase, "coinbase_payout")


def test_commit_that_was_never_made(revealing: tuple[World, list[Found], Transaction]) -> None:
    world, _, _ = revealing
    late = [world.find(3, 190)]
    unmade = world.commit(world.keys[2], late)
    refused(world, forged(world, world.reveal(world.keys[2], unmade, late, 0)), BadBlock, "unknown_commit")


def test_block_of_another_minter(world: World) -> None:
    world.slot += 1
    block = world.draft()
    header = dataclasses.replace(block.header, minter=world.keys[1].public).signed(world.keys[1], world.rules.network)
    refused(world, Block(header, block.transactions), BadBlock, "wrong_minter")


def test_block_of_another_seat(world: World) -> None:
    world.slot += 1
    refused(world, world.resign(world.draft(), seat=bytes([5]) * 32), BadBlock, "wrong_seat")


def test_wrong_state_root(world: World) -> None:
    world.slot += 1
    refused(world, world.resign(world.draft(), state_root=bytes([5]) * 32), BadBlock, "bad_state_root")


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        (lambda body: dataclasses.replace(body, salt=bytes(32)), BadTransaction, "not_committed"),
        (lambda body: dataclasses.replace(body, index=5), BadTransaction, "not_committed"),
        (lambda body: dataclasses.replace(body, path=()), BadTransaction, "not_committed"),
        (lambda body: dataclasses.replace(body, genotype=b"\xff" * 4), BadTransaction, "not_committed"),
        (lambda body: dataclasses.replace(body, commit=bytes(32)), NotApplicable, "unknown_commit"),
        (lambda body: dataclasses.replace(body, model_bytes=1 << 30), BadTransaction, "model_too_large"),
        (lambda body: dataclasses.replace(body, payouts=body.payouts * 2), BadTransaction, "payouts_repeat"),
        (
            lambda body: dataclasses.replace(body, payouts=tuple(Payout(bytes([i]) * 20, 1) for i in range(5))),
            BadTransaction,
            "payouts_too_many",
        ),
    ],
)
def test_reveals_that_break_a_rule(
    revealing: tuple[World, list[Found], Transaction],
    change: Callable[[RevealBody], RevealBody],
    error: type[Invalid],
    code: str,
) -> None:
    world, found, commit = revealing
    honest = RevealBody.decode(world.reveal(world.keys[1], commit, found, 0).body)
    world.apply(world.sign(world.keys[1], Kind.REVEAL, honest))
    with pytest.raises(error) as caught:
        world.apply(world.sign(world.keys[1], Kind.REVEAL, change(honest), fee=200_000))
    assert caught.value.code == code


def test_sealed_rubbish_is_refused_when_opened(world: World) -> None:
    """What does not decode, has the wrong number of leaves or no such model can be sealed, but not revealed."""
    good = world.find(1, 150)
    bad_gene = dataclasses.replace(good, genotype=b"\xff" * len(good.genotype))
    few = dataclasses.replace(good, leaves=good.leaves[1:])
    no_model = dataclasses.replace(good, leaves=(*good.leaves[:-1], bytes([3]) * 32))
    found = [bad_gene, few, no_model]
    commit = world.sealed({1: found})[1]
    codes = []
    for i in range(3):
        with pytest.raises(Refuted) as caught:
            world.apply(world.reveal(world.keys[1], commit, found, i))
        codes.append(caught.value.code)
    assert codes == ["bad_genotype", "bad_leaves", "bad_model"]


def test_only_the_owner_opens_a_commit(revealing: tuple[World, list[Found], Transaction]) -> None:
    world, found, commit = revealing
    with pytest.raises(BadTransaction) as caught:
        world.apply(world.reveal(world.keys[2], commit, found, 0))
    assert caught.value.code == "not_the_owner"


def test_a_result_is_opened_once(revealing: tuple[World, list[Found], Transaction]) -> None:
    world, found, commit = revealing
    world.mint(world.reveal(world.keys[1], commit, found, 0))
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.reveal(world.keys[1], commit, found, 0))
    assert caught.value.code == "already_revealed"


def test_phases_bound_commit_beacon_and_reveal(world: World) -> None:
    found = [world.find(1, 150)]
    with pytest.raises(NotApplicable, match="beacon"):
        world.apply(world.beacon())
    world.mint_to(1)
    commit = world.commit(world.keys[1], found)
    world.mint(commit)
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.reveal(world.keys[1], commit, found, 0))
    assert caught.value.code == "reveal_closed"
    world.mint_to(8)
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.commit(world.keys[2], found))
    assert caught.value.code == "commit_closed"
    world.mint_to(11)
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.reveal(world.keys[1], commit, found, 0))
    assert caught.value.code == "no_beacon"
    world.mint_to(13)
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.beacon())
    assert caught.value.code == "beacon_late"


def test_a_commit_counts_only_under_the_seed_it_was_trained_for(world: World) -> None:
    """On another branch the epoch may have another seed: there these trainings would be forgeries."""
    world.mint_to(1)
    commit = world.commit(world.keys[1], [world.find(1, 150)])
    elsewhere = dataclasses.replace(CommitBody.decode(commit.body), seed=bytes([7]) * 32)
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.sign(world.keys[1], Kind.COMMIT, elsewhere))
    assert caught.value.code == "other_seed"
    world.apply(commit)


def test_beacon_that_does_not_verify(world: World) -> None:
    world.mint_to(9)
    output = bytes([4]) * 200
    world.facts.false.add(output)
    with pytest.raises(Refuted) as caught:
        world.apply(world.beacon(output=output))
    assert caught.value.code == "bad_beacon"
    world.mint(world.beacon())
    with pytest.raises(NotApplicable) as caught:
        world.apply(world.sign(world.keys[1], Kind.BEACON, BeaconBody(0, bytes([5]) * 200), fee=0))
    assert caught.value.code == "beacon_known"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"space": "nothing"}, "unknown_space"),
        ({"steps": 9}, "bad_recipe"),
        ({"dataset_bytes": 1 << 30}, "dataset_too_large"),
        ({"bounty_per_epoch": 0}, "no_bounty"),
        ({"dataset": bytes([9]) * 32, "bounty_per_epoch": 5}, "bad_dataset"),
    ],
)
def test_tasks_that_cannot_be_run(world: World, changes: dict[str, object], code: str) -> None:
    world.facts.false.add(bytes([9]) * 32)
    spec = dataclasses.replace(SPEC, **{"bounty_per_epoch": 7, **changes})
    with pytest.raises(BadTransaction) as caught:
        world.apply(world.sign(world.keys[1], Kind.PUBLISH, PublishBody(spec, 1, ())))
    assert caught.value.code == code


def test_unknown_kinds_and_low_fees(world: World) -> None:
    with pytest.raises(BadTransaction) as caught:
        world.apply(dataclasses.replace(world.sign(world.keys[1], Kind.EVIDENCE, PublishBody(SPEC, 1, ())), kind=9))
    assert caught.value.code == "unknown_kind"
    with pytest.raises(BadTransaction) as caught:
        world.apply(dataclasses.replace(world.commit(world.keys[1], [world.find(1, 150)]), fee=3))
    assert caught.value.code == "fee_too_low"


def test_deposit_must_be_there(world: World) -> None:
    poor = PrivateKey(bytes([77]) * 32)
    overlay = Overlay(world.chain.state)
    accounts.move(overlay, world.keys[1].address, poor.address, 20_100)
    context = BlockContext(1, 1, world.chain.tip.id, bytes(32))
    with pytest.raises(NotApplicable) as caught:
        apply_transaction(world.rules, overlay, context, world.commit(poor, [world.find(1, 150)]), 1)
    assert caught.value.code == "insufficient_balance"
    assert accounts.account(overlay, poor.address) == accounts.Account(20_100, 0)
