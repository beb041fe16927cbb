"""A network that was switched off for long goes on, at a cost that does not depend on how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain import accounts
from chain.state import Overlay
from consensus import records
from consensus.settle import advance, take_due
from tests.consensus.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db")


@pytest.mark.parametrize("gap", [0, 1, 7, 500, 10**6, 10**12])
def test_the_cost_of_a_gap_does_not_grow_with_it(world: World, gap: int) -> None:
    """Two epochs are opened at most: that of the slot, and the next where it is past its settlement."""
    world.mint_to(1)
    world.mint(world.commit(world.keys[1], [world.find(1, 150)]))
    deposit = world.genesis.consensus.commit_deposit
    assert accounts.account(world.chain.state, accounts.ESCROW).balance == deposit
    p = world.genesis.consensus
    for offset in range(p.epoch_slots):
        state = Overlay(world.chain.state)
        slot = p.start(gap + 1) + offset
        advance(state, p, slot, world.chain.height + 1, world.chain.tip.id)
        opened = [key for key, value in state.changes.items() if key.startswith(records.EPOCH) and value is not None]
        assert len(opened) <= 3 and len(state.changes) < 12
        open_now = records.current_epoch(state)
        assert open_now.number == gap + 1 + (offset >= p.reveal_close)
        assert bool(open_now.boundary) == (p.commit_close <= offset < p.reveal_close)
        assert records.need_epoch(state, 0).settled
        due = take_due(state, world.chain.height + 1)
        assert sum(output.amount for part in due for output in part.outputs) == deposit


def test_after_a_gap_the_bootstrap_seats_mint_and_the_next_competition_gives_seats(world: World) -> None:
    world.competition({1: [world.find(1, 150)], 2: [world.find(2, 150)]})
    world.activate()
    won = set(records.active_seats(world.chain.state))
    bootstrap = set(records.ids(world.chain.state, records.BOOTSTRAP))
    tip, gap = world.chain.tip, 20 * 10**6
    slots = range(tip.slot + gap, tip.slot + gap + 200)
    first = next(slot for slot in slots if world.rules.leader(world.chain.state, tip, slot) in bootstrap)
    world.mint(slot=first)
    p = world.genesis.consensus
    assert records.current_epoch(world.chain.state).number - p.epoch_of(first) in (0, 1)
    assert set(records.active_seats(world.chain.state)) == won  # no competition, no change
    world.competition({2: [world.find(3, 160)]})
    world.activate()
    assert len(set(records.active_seats(world.chain.state)) - won) == 1
