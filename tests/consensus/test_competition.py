"""A whole competition under the real rules: seal, beacon, reveal, rank, seats, bounty, deposits, coinbase."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from chain import accounts
from chain.chain import Chain
from chain.store import Store
from chain.types import CoinbaseBody, Kind
from consensus import records
from consensus.split import split
from consensus.types import Payout, PublishBody
from tests.consensus.world import SPEC, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db", challenge_blocks=4)


def epoch(world: World, n: int):
    record = records.epoch(world.chain.state, n)
    assert record is not None
    return record


def test_best_distinct_results_take_the_seats(world: World) -> None:
    good = [world.find(1, 150), world.find(2, 180)]
    other = [world.find(3, 170), world.find(4, 99), world.find(5, 160)]
    reveals = world.competition({1: good, 2: other})
    winners = epoch(world, 0).winners
    assert winners == (reveals[1][1].id, reveals[2][0].id, reveals[2][2].id)
    assert world.pending == winners
    world.activate()
    assert records.active_seats(world.chain.state) == winners
    for seat in winners:
        result = records.result(world.chain.state, seat)
        assert result is not None and result.seated and result.correct == world.facts.scores[result.model]


def test_of_one_architecture_the_earliest_seal_stands(world: World) -> None:
    first = world.find(1, 150)
    copy = world.find(1, 150, genotype=first.genotype)
    world.mint_to(1)
    early = world.commit(world.keys[1], [first])
    world.mint(early)
    late = world.commit(world.keys[2], [copy])
    world.mint(late)
    world.mint_to(9)
    world.mint(world.beacon())
    world.mint_to(11)
    stolen = world.reveal(world.keys[2], late, [copy], 0)
    world.mint(stolen)
    own = world.reveal(world.keys[1], early, [first], 0)
    world.mint(own)
    world.mint_to(16)
    world.mint()
    assert epoch(world, 0).winners == (own.id,)


def test_bounty_is_split_by_margin_over_the_baseline(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, bounty_per_epoch=1001)
    world = World(tmp_path / "db", spec=spec, funded=1)
    found = {1: [world.find(1, 110)], 2: [world.find(2, 130)]}
    reveals = world.competition(found)
    rewards = {i: records.result(world.chain.state, reveals[i][0].id).reward for i in found}
    assert rewards == dict(zip((2, 1), split(1001, [30, 10]), strict=True))
    coinbase = CoinbaseBody.decode(world.chain.block(world.chain.tip.id).transactions[0].body)
    assert {o.address: o.amount for o in coinbase.outputs[-2:]} == {
        world.keys[2].address: rewards[2],
        world.keys[1].address: rewards[1],
    }
    assert records.ids(world.chain.state, records.FUNDED) == ()
    assert records.current_epoch(world.chain.state).bounty == 0


def test_deposits_come_back_and_escrow_holds_only_bonds(world: World) -> None:
    world.competition({1: [world.find(1, 150)]})
    assert accounts.account(world.chain.state, accounts.ESCROW).balance == world.genesis.consensus.reveal_bond
    coinbase = CoinbaseBody.decode(world.chain.block(world.chain.tip.id).transactions[0].body)
    assert any(o.address == world.keys[1].address and o.amount == 1000 for o in coinbase.outputs)


def test_coinbase_follows_the_payout_table(world: World) -> None:
    found = [world.find(1, 150)]
    commit = world.sealed({1: found})[1]
    table = (Payout(bytes([9]) * 20, 2), Payout(bytes([8]) * 20, 1))
    world.mint(world.reveal(world.keys[1], commit, found, 0, payouts=table))
    world.mint_to(16)
    world.mint()
    world.activate()
    block = world.mint()
    outputs = CoinbaseBody.decode(block.transactions[0].body).outputs
    assert [(o.address[:1], o.amount) for o in outputs] == [(b"\x09", 3_333_333), (b"\x08", 1_666_667)]
    for _ in range(world.genesis.ledger.coinbase_maturity):
        world.mint()
    assert accounts.account(world.chain.state, bytes([9]) * 20).balance == 3_333_333


def test_seats_live_for_a_window_of_competitions(tmp_path: Path) -> None:
    world = World(tmp_path / "db", seat_epochs=2, challenge_blocks=4)
    for n in range(4):
        world.competition({1: [world.find(10 * n, 150)], 2: [world.find(10 * n + 1, 160)]})
    window = records.seat_window(world.chain.state)
    assert [group.epoch for group in window.groups] == [1, 2] and [group.epoch for group in window.pending] == [3]


def test_a_seat_is_active_once_it_cannot_be_challenged_any_more(world: World) -> None:
    """So that who mints is never one whose work nobody could have looked at."""
    bootstrap = records.active_seats(world.chain.state)
    reveals = world.competition({1: [world.find(1, 150)]})
    settled = epoch(world, 0).settled_height
    won = (reveals[1][0].id,)
    for _ in range(world.genesis.consensus.challenge_blocks - 1):
        assert records.active_seats(world.chain.state) == bootstrap
        world.apply(world.challenge(world.keys[0], won[0]))  # no fraud, but a challenge that counts
        assert world.mint().header.seat in bootstrap
    assert world.mint().header.height == settled + world.genesis.consensus.challenge_blocks
    assert records.active_seats(world.chain.state) == won
    assert world.mint().header.seat in won


def test_the_bootstrap_seats_stay_until_the_window_is_full(tmp_path: Path) -> None:
    """One competition gives no more than its part of the seats, the first one included."""
    world = World(tmp_path / "db", seat_epochs=3, challenge_blocks=4)
    bootstrap = records.active_seats(world.chain.state)
    won: list[bytes] = []
    for n in range(3):
        reveals = world.competition({1: [world.find(10 * n, 150)], 2: [world.find(10 * n + 1, 160)]})
        won += [reveals[2][0].id, reveals[1][0].id]
        world.activate()
        expected = (*won, *bootstrap) if n < 2 else tuple(won)
        assert records.active_seats(world.chain.state) == expected


def test_void_competition_keeps_the_seats_and_refunds(world: World) -> None:
    world.competition({1: [world.find(1, 150)]})
    world.activate()
    seats = records.active_seats(world.chain.state)
    world.mint_to(1)
    world.mint(world.commit(world.keys[2], [world.find(2, 170)]))
    world.mint_to(16)
    world.mint()
    record = epoch(world, 1)
    assert record.void and record.settled and not record.winners
    assert records.active_seats(world.chain.state) == seats
    bond = world.genesis.consensus.reveal_bond  # of the first competition's seat
    assert accounts.account(world.chain.state, accounts.ESCROW).balance == bond


def test_nothing_below_the_baseline_earns_a_seat(world: World) -> None:
    world.competition({1: [world.find(1, 99)]})
    assert epoch(world, 0).winners == () and not epoch(world, 0).void


def test_gap_of_many_epochs_goes_on(world: World) -> None:
    world.competition({1: [world.find(1, 150)]})
    world.mint(slot=world.slot + 20 * 500)
    assert records.current_epoch(world.chain.state).number in (500, 501)
    world.competition({2: [world.find(2, 150)]})
    assert records.active_seats(world.chain.state)


def test_rescue_lets_bootstrap_seats_mint_when_the_owners_are_away(world: World) -> None:
    world.competition({1: [world.find(1, 150)], 2: [world.find(2, 150)]})
    world.activate()
    bootstrap = records.ids(world.chain.state, records.BOOTSTRAP)
    tip, state = world.chain.tip, world.chain.state
    soon = {world.rules.leader(state, tip, tip.slot + i) for i in range(1, 41)}
    late = {world.rules.leader(state, tip, tip.slot + i) for i in range(41, 141)}
    assert not soon & set(bootstrap) and late & set(bootstrap)


def test_restart_gives_the_same_tip_and_state(world: World) -> None:
    world.competition({1: [world.find(1, 150)]})
    tip = world.chain.tip
    world.store.close()
    again = Chain(Store(world.path, world.genesis.network), world.rules)
    assert again.tip == tip and again.verify() == []


def test_tasks_with_the_highest_bounty_go_first(world: World) -> None:
    low = dataclasses.replace(SPEC, name="low", bounty_per_epoch=10)
    high = dataclasses.replace(SPEC, name="high", bounty_per_epoch=20)
    world.mint_to(1)
    world.mint(
        world.sign(world.keys[1], Kind.PUBLISH, PublishBody(low, 1, ())),
        world.sign(world.keys[1], Kind.PUBLISH, PublishBody(high, 1, ()), after=1),
    )
    names = []
    for n in range(3):
        reveals = world.competition({2: [world.find(n, 150)]})
        result = records.result(world.chain.state, reveals[2][0].id)
        names.append(records.task(world.chain.state, result.task).spec.name)
    assert names == ["high", "low", "table"]
