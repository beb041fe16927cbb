"""Evidence of two headers for one slot: what it costs, how often, and what is no evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from chain import accounts
from chain.errors import BadSignature, BadTransaction, NotApplicable
from chain.keys import PrivateKey
from chain.types import CoinbaseBody, Header
from consensus import records
from tests.consensus.test_challenges import refused
from tests.consensus.world import CONSENSUS, LEDGER, World

FEE = 20_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db", keys=5, bootstrap=2)


def twin(world: World, header: Header, **changes: Any) -> Header:
    """Another header by the same minter."""
    changed = dataclasses.replace(header, **({"state_root": bytes([9]) * 32} | changes))
    return changed.signed(world.key_of(header.minter), world.rules.network)


def seated(world: World) -> Header:
    """Header of a block that a won seat of key 2 minted; key 3 holds the other one."""
    world.competition({2: [world.find(1, 180)], 3: [world.find(2, 170)]})
    world.activate()
    while world.chain.tip.minter != world.keys[2].public:
        world.mint()
    return world.chain.tip


def test_two_headers_for_one_slot_cost_the_seat(world: World) -> None:
    header = seated(world)
    minter, reporter = world.key_of(header.minter), world.keys[4]
    at_stake = world.immature_of(minter) + CONSENSUS.reveal_bond
    assert at_stake >= LEDGER.subsidy
    before, supply = world.balance(reporter), accounts.supply(world.chain.state)
    block = world.mint(world.evidence(reporter, header, twin(world, header)))
    assert world.balance(reporter) == before - FEE + at_stake // 2
    own = 0 if block.header.seat == header.seat else LEDGER.subsidy
    fees_burned = FEE if not own else 0
    assert accounts.supply(world.chain.state) == supply + own - fees_burned - (at_stake - at_stake // 2)
    assert world.result(header.seat).revoked
    assert header.seat not in records.active_seats(world.chain.state)
    refused(world, world.evidence(reporter, header, twin(world, header)), NotApplicable, "already_punished")


def test_nobody_inherits_an_active_seat(tmp_path: Path) -> None:
    """Who ranks next was not worth an audit, and cannot be challenged any more."""
    world = World(tmp_path / "db", keys=5, seats=2)
    next_rank = world.competition({2: [world.find(1, 180)], 3: [world.find(2, 170)], 1: [world.find(3, 160)]})[1][0].id
    world.activate()
    world.mint()
    lost = world.chain.tip.seat
    (left,) = set(records.active_seats(world.chain.state)) - {lost}
    world.mint(world.evidence(world.keys[4], world.chain.tip, twin(world, world.chain.tip)))
    assert records.active_seats(world.chain.state) == (left,)
    assert not world.result(next_rank).seated
    epoch = records.epoch(world.chain.state, 0)
    assert epoch is not None and epoch.winners == (left,)


def test_a_block_whose_own_seat_is_lost_in_it_is_paid_nothing(world: World) -> None:
    header = seated(world)
    slot = world.slot + 1
    while world.rules.leader(world.chain.state, world.chain.tip, slot) != header.seat:
        slot += 1
    supply = accounts.supply(world.chain.state)
    at_stake = world.immature_of(world.key_of(header.minter)) + CONSENSUS.reveal_bond
    block = world.mint(world.evidence(world.keys[4], header, twin(world, header)), slot=slot)
    assert block.header.seat == header.seat
    assert CoinbaseBody.decode(block.transactions[0].body).outputs == ()
    assert accounts.supply(world.chain.state) == supply - FEE - (at_stake - at_stake // 2)


def test_a_pending_seat_cannot_be_accused(world: World) -> None:
    """It mints nothing. Else its owner could let heirs come in, and so the window begin anew, whenever it likes."""
    pending = world.competition({2: [world.find(1, 180)]})[2][0].id
    header = dataclasses.replace(world.chain.tip, seat=pending, minter=world.keys[2].public)
    both = [dataclasses.replace(header, height=n).signed(world.keys[2], world.rules.network) for n in (1, 2)]
    refused(world, world.evidence(world.keys[4], *both), NotApplicable, "seat_pending")


def test_the_other_seat_of_the_same_key_may_have_signed_the_second(world: World) -> None:
    """On two branches the slot may belong to two seats of one owner; it may use only one of them."""
    world.competition({2: [world.find(1, 180), world.find(2, 170)]})
    world.activate()
    world.mint()
    header = world.chain.tip
    (other,) = set(records.active_seats(world.chain.state)) - {header.seat}
    second = twin(world, header, seat=other)
    world.mint(world.evidence(world.keys[4], header, second))
    assert records.active_seats(world.chain.state) == (other,)
    world.mint(world.evidence(world.keys[4], second, header))
    assert records.active_seats(world.chain.state) == records.ids(world.chain.state, records.BOOTSTRAP)


def test_a_bootstrap_seat_leaves_the_list_unless_it_is_the_last(world: World) -> None:
    world.mint()
    first = world.chain.tip
    both = records.ids(world.chain.state, records.BOOTSTRAP)
    assert len(both) == 2
    lost = world.immature_of(world.key_of(first.minter))
    before = world.balance(world.keys[4])
    world.mint(world.evidence(world.keys[4], first, twin(world, first)))
    assert world.balance(world.keys[4]) == before - FEE + lost // 2
    left = records.ids(world.chain.state, records.BOOTSTRAP)
    assert left == tuple(seat for seat in both if seat != first.seat)
    while world.chain.tip.seat not in left:
        world.mint()
    last = world.chain.tip
    world.mint(world.evidence(world.keys[4], last, twin(world, last)))
    assert records.ids(world.chain.state, records.BOOTSTRAP) == left
    # The rewards are gone all the same, but for those of the block with the evidence, and no offence counts twice.
    assert world.immature_of(world.key_of(last.minter)) == LEDGER.subsidy + FEE
    refused(world, world.evidence(world.keys[4], last, twin(world, last)), NotApplicable, "already_punished")
    world.mint()


def test_what_is_no_evidence(world: World) -> None:
    header = seated(world)
    key = world.keys[4]
    other_signature = dataclasses.replace(header, signature=bytes(64))
    refused(world, world.evidence(key, header, header), BadTransaction, "not_equivocation")
    refused(world, world.evidence(key, header, other_signature), BadTransaction, "not_equivocation")
    refused(world, world.evidence(key, header, twin(world, header, slot=header.slot + 1)), BadTransaction,
            "not_equivocation")  # fmt: skip
    stranger = dataclasses.replace(header, minter=key.public).signed(key, world.rules.network)
    refused(world, world.evidence(key, header, stranger), BadTransaction, "not_equivocation")
    unsigned = dataclasses.replace(twin(world, header), signature=header.signature)
    refused(world, world.evidence(key, header, unsigned), BadSignature, "bad_signature")
    refused(world, world.evidence(key, unsigned, header), BadSignature, "bad_signature")
    foreign = dataclasses.replace(header, state_root=bytes(32)).signed(world.key_of(header.minter), bytes(32))
    refused(world, world.evidence(key, header, foreign), BadSignature, "bad_signature")


def test_nobody_can_accuse_a_seat_that_the_signer_does_not_own(world: World) -> None:
    header = seated(world)
    mallory = PrivateKey(bytes([99]) * 32)
    one = dataclasses.replace(header, minter=mallory.public).signed(mallory, world.rules.network)
    two = dataclasses.replace(one, state_root=bytes(32)).signed(mallory, world.rules.network)
    refused(world, world.evidence(world.keys[4], one, two), NotApplicable, "unknown_seat")
    nowhere = dataclasses.replace(one, seat=bytes(32)).signed(mallory, world.rules.network)
    refused(world, world.evidence(world.keys[4], nowhere, two), NotApplicable, "unknown_seat")


def test_evidence_counts_for_a_window_of_slots(world: World) -> None:
    header = seated(world)
    evidence = world.evidence(world.keys[4], header, twin(world, header))
    late = header.slot + CONSENSUS.challenge_blocks
    refused(world, evidence, NotApplicable, "evidence_closed", slot=late)
    ahead = twin(world, header, slot=world.slot + 2), twin(world, header, slot=world.slot + 2, height=7)
    refused(world, world.evidence(world.keys[4], *ahead), NotApplicable, "evidence_closed")
    world.mint(evidence, slot=late - 1)
    assert world.result(header.seat).revoked
