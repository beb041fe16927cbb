"""Challenges: what a proven fraud costs, who inherits, what a false challenge costs, and when none is taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from chain import accounts
from chain.errors import BadTransaction, Invalid, NotApplicable
from chain.ledger import apply_transaction
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import CoinbaseBody, Transaction
from consensus import records
from consensus.challenge import challenge_fact
from consensus.facts import fact_key
from consensus.genesis import Genesis
from consensus.tasks import check_spec, segment_macs
from tests.consensus.world import CONSENSUS, LEDGER, SPEC, World

FEE = 20_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db", keys=5, spec=dataclasses.replace(SPEC, bounty_per_epoch=1001), funded=9)


def refused(world: World, transaction: Transaction, error: type[Invalid], code: str, slot: int | None = None) -> None:
    """The next block (or the one at `slot`) cannot carry the transaction."""
    with pytest.raises(error) as caught:
        world.apply(transaction, slot)
    assert caught.value.code == code


def settled_fraud(world: World) -> tuple[bytes, bytes, bytes]:
    """Ids of three results, best first: key 1's forged one and key 2's two; two of them hold the seats of two."""
    forged, good, third = world.find(1, 190), world.find(2, 180), world.find(3, 170)
    world.facts.forged.add(forged.leaves[2])
    reveals = world.competition({1: [forged], 2: [good, third]})
    return reveals[1][0].id, reveals[2][0].id, reveals[2][1].id


@pytest.fixture
def two_seats(tmp_path: Path) -> World:
    spec = dataclasses.replace(SPEC, bounty_per_epoch=1001)
    return World(tmp_path / "db", keys=5, spec=spec, funded=9, seats=2)


def test_a_proven_fraud_costs_bond_and_immature_rewards(two_seats: World) -> None:
    world = two_seats
    forged, _, _ = settled_fraud(world)
    cheat, challenger = world.keys[1], world.keys[3]
    at_stake = world.immature_of(cheat) - CONSENSUS.commit_deposit + CONSENSUS.reveal_bond
    reward = world.result(forged).reward
    assert at_stake == reward + CONSENSUS.reveal_bond and reward > 0
    before, supply = world.balance(challenger), accounts.supply(world.chain.state)
    block = world.mint(world.challenge(challenger, forged))
    assert world.balance(challenger) == before - FEE + at_stake // 2
    minted = world.genesis.ledger.subsidy_at(block.header.height)
    assert accounts.supply(world.chain.state) == supply + minted - (at_stake - at_stake // 2)
    assert world.immature_of(cheat) == CONSENSUS.commit_deposit  # deposits are not rewards
    revoked = world.result(forged)
    assert (revoked.revoked, revoked.seated, revoked.bond, revoked.reward) == (True, False, 0, 0)


def test_the_seat_goes_to_the_next_rank(two_seats: World) -> None:
    world = two_seats
    forged, second, third = settled_fraud(world)
    assert world.pending == (forged, second)
    world.mint(world.challenge(world.keys[3], forged))
    assert world.pending == (second, third)
    epoch = records.epoch(world.chain.state, 0)
    assert epoch is not None and epoch.winners == (second, third)
    assert world.result(third).seated and world.result(third).reward == 0
    world.activate()
    for _ in range(10):
        assert world.mint().header.seat in (second, third)


def test_a_copy_of_the_revoked_architecture_counts_again(world: World) -> None:
    forged = world.find(1, 190)
    world.facts.forged.add(forged.leaves[2])
    honest = world.find(1, 150, genotype=forged.genotype)
    reveals = world.competition({1: [forged], 2: [honest]})
    assert world.pending == (reveals[1][0].id,)
    world.mint(world.challenge(world.keys[3], reveals[1][0].id))
    assert world.pending == (reveals[2][0].id,)


def test_a_forgery_without_a_seat_that_kept_another_from_counting(two_seats: World) -> None:
    """Sealed first with a bad score, it keeps an honest copy of its architecture out, which has a seat without it."""
    world = two_seats
    squatter = world.find(1, 110)
    world.facts.forged.add(squatter.leaves[2])
    robbed = world.find(1, 195, genotype=squatter.genotype)
    best, second = world.find(2, 180), world.find(3, 170)
    reveals = world.competition({1: [squatter], 2: [robbed], 3: [best, second]})
    ids = [reveals[2][0].id, reveals[3][0].id, reveals[3][1].id]
    assert world.pending == (ids[1], ids[2])
    world.mint(world.challenge(world.keys[4], reveals[1][0].id))
    assert world.pending == (ids[0], ids[1])
    assert [world.result(id).seated for id in ids] == [True, True, False]
    assert world.result(ids[2]).reward > 0, "what was paid to an honest result stays paid"


def test_heirs_can_be_challenged_for_as_long_as_those_before_them(tmp_path: Path) -> None:
    """However many forgeries stand before an honest result: each that comes in opens the window anew."""
    world = World(tmp_path / "db", keys=5, seats=2, challenge_blocks=4, seat_epochs=1)
    bootstrap = records.active_seats(world.chain.state)
    found = [world.find(n, 190 - n) for n in range(7)]
    world.facts.forged.update(find.leaves[2] for find in found)
    reveals = world.competition({1: found, 2: [world.find(7, 160)]})
    ids = [reveal.id for reveal in reveals[1]] + [reveals[2][0].id]
    settled = world.chain.height
    for place, forged in enumerate(ids[:-1]):
        for _ in range(2):  # the next but one block is the last in which it can be challenged, or the one before that
            world.mint()
        world.mint(world.challenge(world.keys[3], forged))
        assert set(world.pending) == set(ids[place + 1 : place + 3])
        assert records.active_seats(world.chain.state) == bootstrap
        group = records.seat_group(world.chain.state, 0)
        assert group is not None and group.closes == world.chain.height + (1 if place == 6 else 4)
    assert world.chain.height == settled + 21
    world.activate()
    assert records.active_seats(world.chain.state) == (ids[-1],)


def test_what_has_no_seat_can_be_challenged_in_the_first_window_only(tmp_path: Path) -> None:
    """Else whoever squats on architectures could reveal one forgery at a time, to keep the seats pending."""
    world = World(tmp_path / "db", keys=5, seats=1, challenge_blocks=4)
    forged, squatter = world.find(1, 190), world.find(2, 110)
    better = world.find(2, 195, genotype=squatter.genotype)
    world.facts.forged.update((forged.leaves[2], squatter.leaves[2]))
    reveals = world.competition({1: [forged, squatter], 2: [better], 3: [world.find(3, 180)]})
    for _ in range(2):
        world.mint()
    world.mint(world.challenge(world.keys[4], reveals[1][0].id))
    assert world.pending == (reveals[3][0].id,)
    refused(world, world.challenge(world.keys[4], reveals[1][1].id), NotApplicable, "challenge_closed")
    world.mint(world.challenge(world.keys[4], reveals[3][0].id))  # no fraud


def test_revoking_what_has_no_seat_changes_no_seat(tmp_path: Path) -> None:
    world = World(tmp_path / "db", keys=5, seats=2, challenge_blocks=6)
    bad = [world.find(n, 120 - n) for n in range(3)]
    world.facts.forged.update(find.leaves[2] for find in bad)
    reveals = world.competition({1: bad, 2: [world.find(7, 180), world.find(8, 170)]})
    group = records.seat_group(world.chain.state, 0)
    for reveal in reveals[1]:
        world.mint(world.challenge(world.keys[3], reveal.id))
        assert world.result(reveal.id).revoked and records.seat_group(world.chain.state, 0) == group


def test_where_nobody_is_left_the_seats_stay_as_they_were(world: World) -> None:
    forged = world.find(1, 190)
    world.facts.forged.add(forged.leaves[2])
    reveals = world.competition({1: [forged]})
    world.mint(world.challenge(world.keys[3], reveals[1][0].id))
    assert world.pending == ()
    assert records.active_seats(world.chain.state) == records.ids(world.chain.state, records.BOOTSTRAP)
    world.competition({2: [world.find(7, 160)]})


def test_a_result_revoked_before_settlement_takes_no_seat_and_no_bounty(world: World) -> None:
    forged, good = world.find(1, 190), world.find(2, 180)
    world.facts.forged.add(forged.leaves[3])
    reveals = world.revealed({1: [forged], 2: [good]})
    before = world.balance(world.keys[3])
    world.mint(world.challenge(world.keys[3], reveals[1][0].id, segment=2))
    assert world.balance(world.keys[3]) == before - FEE + CONSENSUS.reveal_bond // 2
    world.mint_to(16)
    world.mint()
    assert world.pending == (reveals[2][0].id,)
    assert world.result(reveals[2][0].id).reward == 1001


def test_a_challenge_in_the_settling_block_takes_what_is_only_due(world: World) -> None:
    forged, good = world.find(1, 190), world.find(2, 180)
    world.facts.forged.add(forged.leaves[2])
    reveals = world.revealed({1: [forged], 2: [good]})
    world.mint_to(16)
    before = world.balance(world.keys[3])
    block = world.mint(world.challenge(world.keys[3], reveals[1][0].id))
    paid = CoinbaseBody.decode(block.transactions[0].body).outputs
    mine = [output.amount for output in paid if output.address == world.keys[1].address]
    assert mine == [CONSENSUS.commit_deposit]
    bounty = 1001 * 90 // 170  # margins over the baseline of 100: 90 and 80; the rest is rounded by remainders
    gained = world.balance(world.keys[3]) - before + FEE
    assert gained in ((bounty + CONSENSUS.reveal_bond) // 2, (bounty + 1 + CONSENSUS.reveal_bond) // 2)
    assert world.pending == (reveals[2][0].id,)


def test_a_false_challenge_burns_the_deposit_and_nothing_else(world: World) -> None:
    reveals = world.competition({1: [world.find(1, 190)]})
    result = world.result(reveals[1][0].id)
    before, supply = world.balance(world.keys[3]), accounts.supply(world.chain.state)
    block = world.mint(world.challenge(world.keys[3], result.id))
    assert world.balance(world.keys[3]) == before - FEE - CONSENSUS.challenge_deposit
    minted = world.genesis.ledger.subsidy_at(block.header.height)
    assert accounts.supply(world.chain.state) == supply + minted - CONSENSUS.challenge_deposit
    assert world.result(result.id) == result
    paid = CoinbaseBody.decode(block.transactions[0].body).outputs
    assert sum(output.amount for output in paid) == minted + FEE  # whoever includes it earns its fee


def test_who_cannot_pay_the_deposit_is_not_even_looked_at(world: World) -> None:
    reveals = world.competition({1: [world.find(1, 190)]})
    left = FEE + CONSENSUS.challenge_deposit - 1
    overlay = Overlay(world.chain.state)
    accounts.debit(overlay, world.keys[3].address, world.balance(world.keys[3]) - left)
    challenge = world.challenge(world.keys[3], reveals[1][0].id)
    context = BlockContext(world.chain.height + 1, world.slot + 1, world.chain.tip.id, bytes(32))
    with pytest.raises(NotApplicable) as caught:  # not Missing: no replay before the money is there
        apply_transaction(world.rules, overlay, context, challenge, 1)
    assert caught.value.code == "insufficient_balance"


def test_challenges_that_are_not_taken(world: World) -> None:
    reveals = world.competition({1: [world.find(1, 190)]})
    id, key = reveals[1][0].id, world.keys[3]
    refused(world, world.challenge(key, bytes(32)), NotApplicable, "unknown_result")
    refused(world, world.challenge(key, id, segment=3), BadTransaction, "bad_segment")
    refused(world, world.challenge(key, id, segment=0, state=bytes(32)), BadTransaction, "state_not_wanted")
    refused(world, world.challenge(key, id, segment=0, state_bytes=1), BadTransaction, "state_not_wanted")
    refused(world, world.challenge(key, id, state=b""), BadTransaction, "bad_state")
    refused(world, world.challenge(key, id, state=bytes(31)), BadTransaction, "bad_state")
    refused(world, world.challenge(key, id, state_bytes=0), BadTransaction, "bad_state")
    refused(world, world.challenge(key, id, state_bytes=1 << 31), BadTransaction, "bad_state")


def test_a_result_is_revoked_once(two_seats: World) -> None:
    world = two_seats
    forged, _, _ = settled_fraud(world)
    world.mint(world.challenge(world.keys[3], forged))
    refused(world, world.challenge(world.keys[4], forged, segment=2), NotApplicable, "already_revoked")


def test_at_most_so_many_challenges_a_block(world: World) -> None:
    reveals = world.competition({1: [world.find(1, 190)], 2: [world.find(2, 180)]})
    one, two = reveals[1][0].id, reveals[2][0].id
    three = [world.challenge(world.keys[3], one), world.challenge(world.keys[4], two),
             world.challenge(world.keys[3], two, segment=2, after=1)]  # fmt: skip
    world.slot += 1
    for transaction in three:
        for segment in (1, 2):
            for id in (one, two):
                fact = challenge_fact(world.chain.state, world.result(id), segment, bytes([1]) * 32, 500)
                world.facts.answers[fact_key(fact)] = 0
        world.know(transaction, world.slot)
    block = world.draft(*three)
    assert len(block.transactions) == 1 + CONSENSUS.challenges_per_block
    world.add(block)
    world.mint(world.challenge(world.keys[3], two, segment=2))


def test_in_the_last_block_of_the_window_all_rewards_are_there_to_be_taken(two_seats: World) -> None:
    world = two_seats
    forged, second, third = settled_fraud(world)
    settled = records.epoch(world.chain.state, 0)
    assert settled is not None and settled.settled_height == world.chain.height
    closes = settled.settled_height + CONSENSUS.challenge_blocks
    while world.chain.height < closes - 2:
        world.mint()
    key = world.keys[3]
    rewards = sum(
        output.amount
        for height in range(1, world.chain.height + 1)
        for output in CoinbaseBody.decode(world.block_at(height).transactions[0].body).outputs
        if output.address == world.keys[1].address
    )
    at_stake = rewards - CONSENSUS.commit_deposit + CONSENSUS.reveal_bond
    before = world.balance(key)
    world.mint(world.challenge(key, forged))
    assert world.chain.height == closes - 1
    assert world.balance(key) == before - FEE + at_stake // 2
    world.activate()
    assert world.chain.height == closes - 1 + CONSENSUS.challenge_blocks, "the window has begun anew"
    assert records.active_seats(world.chain.state) == (second, third)
    refused(world, world.challenge(key, second), NotApplicable, "challenge_closed")


def test_bonds_come_back_with_the_window_and_those_of_seats_when_they_end(two_seats: World) -> None:
    world = two_seats
    bond, miner = CONSENSUS.reveal_bond, world.keys[2]
    first = world.competition({2: [world.find(n, 180 - n) for n in range(5)]})[2]
    assert records.bonded_epochs(world.chain.state) == (0,)

    def returned() -> list[int]:
        outputs = CoinbaseBody.decode(world.block_at(world.chain.height).transactions[0].body).outputs
        return [output.amount for output in outputs if output.address == miner.address and output.amount % bond == 0]

    world.activate()
    assert returned() == [3 * bond], "one output for all results that have no seat"
    assert records.bonded_epochs(world.chain.state) == ()
    assert [world.result(reveal.id).bond for reveal in first] == [bond, bond, 0, 0, 0]
    world.competition({3: [world.find(7, 170)]})
    world.activate()
    assert returned() == [2 * bond] and world.result(first[0].id).bond == 0
    held = accounts.account(world.chain.state, accounts.ESCROW).balance
    assert held == bond + 1001 * records.need_task(world.chain.state, world.result(first[0].id).task).epochs_left


def test_a_long_gap_does_not_close_the_window(world: World) -> None:
    """The window counts blocks: a network that was switched off can still challenge when it is back."""
    forged = world.find(1, 190)
    world.facts.forged.add(forged.leaves[2])
    reveal = world.revealed({1: [forged]})[1][0]
    for _ in range(2):  # before settlement, and after it
        world.mint(slot=world.slot + 20 * 300)
        assert world.pending == (reveal.id,)
    world.mint(world.challenge(world.keys[3], reveal.id))
    assert world.result(reveal.id).revoked


def test_bonds_of_one_epoch_at_a_time_are_released(tmp_path: Path) -> None:
    world = World(tmp_path / "db", challenge_blocks=24)
    for n in range(4):
        world.competition({1: [world.find(10 * n, 150)], 2: [world.find(10 * n + 1, 160)]})
        bonded = records.bonded_epochs(world.chain.state)
        assert bonded == tuple(range(max(0, n - 1), n + 1))
        held = accounts.account(world.chain.state, accounts.ESCROW).balance
        assert held == 2 * CONSENSUS.reveal_bond * min(3, n + 1)  # those of the active seats as well


def test_a_reorganisation_undoes_a_revocation(two_seats: World) -> None:
    world = two_seats
    forged, second, _ = settled_fraud(world)
    fork = world.chain.tip
    world.slot += 1
    honest = world.draft(slot=world.slot + 1)
    world.mint(world.challenge(world.keys[3], forged), slot=world.slot)
    assert world.result(forged).revoked
    world.add(honest)
    assert world.chain.tip.id != honest.id  # same length: the first stays
    other = World(world.path.with_name("other"), keys=5, spec=world.genesis.tasks[0].spec, funded=9, seats=2)
    other.facts = world.facts
    other.rules.facts = world.facts
    for height in range(1, fork.height + 1):
        other.chain.add_block(world.block_at(height))
    other.chain.add_block(honest)
    other.slot = honest.header.slot
    longer = other.mint()
    world.add(longer)
    assert world.chain.tip == longer.header
    assert not world.result(forged).revoked and world.result(forged).bond == CONSENSUS.reveal_bond
    assert world.pending == (forged, second)
    world.check_supply()
    assert world.chain.verify() == []


def test_what_a_segment_may_cost_is_bounded() -> None:
    check_spec(SPEC, CONSENSUS)
    assert segment_macs(SPEC) == 4 * (3 * 8 * 10**9 + 10**7)
    tight = dataclasses.replace(CONSENSUS, max_segment_macs=segment_macs(SPEC))
    check_spec(SPEC, tight)
    for spec in (
        dataclasses.replace(SPEC, segments=1),
        dataclasses.replace(SPEC, batch=9),
        dataclasses.replace(SPEC, max_macs=10**9 + 1),
        dataclasses.replace(SPEC, max_macs=1, batch=1, steps=10**6),
    ):
        with pytest.raises(BadTransaction) as caught:
            check_spec(spec, tight)
        assert caught.value.code == "segment_too_long"
    with pytest.raises(BadTransaction) as caught:
        check_spec(dataclasses.replace(SPEC, max_parameters=1 << 25), CONSENSUS)
    assert caught.value.code == "state_too_large"


def test_rewards_must_stay_immature_for_the_whole_window(world: World) -> None:
    short = dataclasses.replace(LEDGER, coinbase_maturity=CONSENSUS.challenge_blocks - 1)
    with pytest.raises(ValueError, match="coinbase_maturity"):
        dataclasses.replace(world.genesis, ledger=short).check()
    many = dataclasses.replace(CONSENSUS, reveals_per_block=500)
    with pytest.raises(ValueError, match="outputs"):
        dataclasses.replace(world.genesis, consensus=many).check()
    assert Genesis.from_json(world.genesis.to_json()) == world.genesis
