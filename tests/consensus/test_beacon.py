"""The beacon of an epoch: late, missing, invalid, conflicting. Source: protocol C6."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain import accounts
from chain.chain import Status
from chain.errors import BadBlock, Refuted
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import Kind, Transaction, transactions_root
from consensus import records
from consensus.types import BeaconBody, beacon_value
from tests.consensus.world import World

CLOSE, OPEN, GRACE = 8, 11, 2  # of the world's parameters


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db")


def beacon(world: World, sender: int, output: bytes, epoch: int = 0) -> Transaction:
    return world.sign(world.keys[sender], Kind.BEACON, BeaconBody(epoch, output), fee=0)


def refuse_in_a_block(world: World, *transactions: Transaction) -> str:
    """The code for which a block with these transactions is refused; nothing changes."""
    tip, slot = world.chain.tip, world.slot + 1
    block = world.draft(slot=slot)
    for transaction in transactions:
        world.know(transaction, slot)
    carried = (block.transactions[0], *transactions)
    block = world.resign(block, transactions=carried, transactions_root=transactions_root(carried))
    with pytest.raises(BadBlock) as caught:
        world.add(block)
    assert world.chain.tip == tip
    return caught.value.code


def test_the_first_valid_one_counts_whoever_sends_it(world: World) -> None:
    world.mint_to(CLOSE + 1)
    world.mint(beacon(world, 2, bytes([7]) * 200))
    epoch = records.current_epoch(world.chain.state)
    assert epoch.beacon == beacon_value(bytes([7]) * 200) == records.last_beacon(world.chain.state)


def test_a_late_beacon_is_refused_from_the_end_of_its_grace_on(world: World) -> None:
    world.mint_to(OPEN + GRACE)  # the last slot before it has been minted
    assert refuse_in_a_block(world, beacon(world, 1, bytes([7]) * 200)) == "beacon_late"
    world.mint()
    assert refuse_in_a_block(world, beacon(world, 1, bytes([7]) * 200)) == "beacon_late"
    assert not records.current_epoch(world.chain.state).beacon


def test_a_beacon_in_the_last_slot_of_its_grace_counts(world: World) -> None:
    world.mint_to(OPEN + GRACE - 1)
    world.mint(beacon(world, 1, bytes([7]) * 200))
    assert records.current_epoch(world.chain.state).beacon


def test_an_early_beacon_is_refused_there_is_no_boundary_yet(world: World) -> None:
    world.mint_to(CLOSE - 1)
    assert refuse_in_a_block(world, beacon(world, 1, bytes([7]) * 200)) == "beacon_not_due"


def test_the_block_that_fixes_the_boundary_may_carry_the_beacon(world: World) -> None:
    world.mint_to(CLOSE)
    tip = world.chain.tip.id
    world.mint(beacon(world, 1, bytes([7]) * 200))
    epoch = records.current_epoch(world.chain.state)
    assert epoch.boundary == tip and epoch.beacon


def test_a_beacon_of_another_epoch_is_refused(world: World) -> None:
    world.mint_to(CLOSE + 1)
    for epoch in (1, 2**40):
        assert refuse_in_a_block(world, beacon(world, 1, bytes([7]) * 200, epoch)) == "beacon_not_due"


def test_without_a_beacon_the_competition_is_void_deposits_return_and_seats_carry_over(world: World) -> None:
    world.competition({1: [world.find(1, 150)]})
    seats, last = records.active_seats(world.chain.state), records.last_beacon(world.chain.state)
    seed = records.current_epoch(world.chain.state).seed
    world.mint_to(1)
    world.mint(world.commit(world.keys[2], [world.find(2, 170)]))
    parameters = world.genesis.consensus
    held = parameters.commit_deposit + parameters.reveal_bond  # the bond is of the first competition's result
    assert accounts.account(world.chain.state, accounts.ESCROW).balance == held
    world.mint_to(16)
    world.mint()
    record = records.epoch(world.chain.state, 1)
    assert record is not None and record.void and not record.winners
    assert records.active_seats(world.chain.state) == seats
    assert records.last_beacon(world.chain.state) == last  # the schedule goes on by it, and nothing weaker replaces it
    assert accounts.account(world.chain.state, accounts.ESCROW).balance == parameters.reveal_bond
    assert records.current_epoch(world.chain.state).seed != seed
    world.competition({2: [world.find(3, 160)]})
    assert records.active_seats(world.chain.state) != seats


def test_an_invalid_beacon_is_refuted_and_a_valid_one_still_counts(world: World) -> None:
    world.mint_to(CLOSE + 1)
    false, true = bytes([4]) * 200, bytes([7]) * 200
    world.facts.false.add(false)
    assert refuse_in_a_block(world, beacon(world, 1, false)) == "bad_beacon"
    overlay, transaction = Overlay(world.chain.state), beacon(world, 1, false)
    context = BlockContext(world.chain.height + 1, world.slot + 1, world.chain.tip.id, bytes(32))
    with pytest.raises(Refuted):  # on its own it says nothing against the peer: it may be true on another branch
        world.rules.apply(overlay, context, transaction, 1)
    world.mint(beacon(world, 2, true))
    assert records.current_epoch(world.chain.state).beacon == beacon_value(true)


def test_of_conflicting_beacons_the_first_on_the_branch_counts_and_a_block_carries_one(world: World) -> None:
    """The delay function has one output; two proofs of it may differ in bytes, so both may verify."""
    world.mint_to(CLOSE + 1)
    one, other = beacon(world, 1, bytes([7]) * 200), beacon(world, 2, bytes([7]) * 100 + bytes([8]) * 100)
    assert refuse_in_a_block(world, one, other) == "beacon_known"
    world.mint(one)
    assert refuse_in_a_block(world, other) == "beacon_known"
    assert beacon_value(bytes([7]) * 200) == beacon_value(bytes([7]) * 100 + bytes([8]) * 100)


def test_two_branches_with_different_boundaries_have_different_beacons_and_the_longer_one_counts(world: World) -> None:
    world.mint_to(CLOSE - 1)
    fork = world.chain.tip
    boundary = world.mint()  # at commit_close - 1
    world.mint()
    world.mint(beacon(world, 1, bytes([7]) * 200))
    ours = records.last_beacon(world.chain.state)
    assert records.current_epoch(world.chain.state).boundary == boundary.id

    other = World(world.path.with_name("other"))
    for height in range(1, fork.height + 1):
        other.add(world.block_at(height))
    other.slot = fork.slot + 1  # the block before the close is missing here: the boundary is the one before
    blocks = [other.mint(), other.mint(beacon(other, 2, bytes([9]) * 200)), other.mint(), other.mint()]
    assert records.current_epoch(other.chain.state).boundary == fork.id
    outcomes = [world.add(block).status for block in blocks]
    assert outcomes[-1] is Status.REORG
    assert records.last_beacon(world.chain.state) == beacon_value(bytes([9]) * 200) != ours
    world.slot = other.slot
    assert refuse_in_a_block(world, beacon(world, 1, bytes([7]) * 200)) == "beacon_known"
