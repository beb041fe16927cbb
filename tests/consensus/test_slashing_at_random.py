"""Competitions, forgeries, challenges true and false, and equivocations at random: what must hold after every block."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from chain import accounts
from chain.chain import Chain
from chain.immature import outputs_at
from chain.store import Store
from chain.types import Transaction
from consensus import records
from consensus.rules import ConsensusRules
from consensus.settle import rank
from consensus.types import ResultRecord
from tests.consensus.test_evidence import twin
from tests.consensus.world import LEDGER, SPEC, World

EPOCHS = 4


def results(world: World) -> list[ResultRecord]:
    state = world.chain.state
    epochs = [records.epoch(state, n) for n in range(records.current_epoch(state).number + 1)]
    return [result for epoch in epochs if epoch is not None for result in records.results_of(state, epoch)]


def check(world: World) -> None:
    """Every invariant of bonds, escrow, immature coins, seats and winners."""
    state, parameters = world.chain.state, world.genesis.consensus
    every = results(world)
    current = records.current_epoch(state)
    deposits = sum(commit.deposit for commit in records.commits_of(state, current))
    tasks = [records.task(state, id) for id in records.ids(state, records.FUNDED)]
    bounties = sum(task.epochs_left * task.spec.bounty_per_epoch for task in tasks if task is not None)
    held = accounts.account(state, accounts.ESCROW).balance
    assert held == sum(result.bond for result in every) + deposits + bounties
    heights = range(max(1, world.chain.height - LEDGER.coinbase_maturity + 1), world.chain.height + 1)
    owed = sum(output.amount for height in heights for output in outputs_at(state, height))
    assert accounts.account(state, accounts.IMMATURE).balance == owed
    for result in every:
        if result.revoked:
            assert (result.bond, result.reward, result.seated) == (0, 0, False)
    window = records.seat_window(state)
    groups = (*window.groups, *window.pending)
    seats = [seat for group in groups for seat in group.seats]
    assert len(set(seats)) == len(seats) and all(group.seats for group in groups)
    assert all(group.closes <= world.chain.height for group in window.groups)
    assert all(group.closes > world.chain.height for group in window.pending)
    assert all(world.result(seat).seated for seat in seats)
    for n in range(current.number):
        epoch = records.epoch(state, n)
        if epoch is None or not epoch.settled:
            continue
        assert not any(world.result(winner).revoked for winner in epoch.winners)
        group = next((group for group in groups if group.epoch == n), None)
        if group is not None:
            assert sorted(group.seats) == sorted(epoch.winners)
            assert {result.id for result in records.results_of(state, epoch) if result.seated} == set(epoch.winners)
        if group in window.pending:
            ids = [result.id for result in rank(records.results_of(state, epoch), SPEC.baseline_correct)]
            assert epoch.winners == tuple(ids[: parameters.seats])
    world.check_supply()


def attempt(world: World, *transactions: Transaction) -> int:
    """Mint a block with those of the transactions that apply; how many did."""
    world.slot += 1
    block = world.draft(*transactions)
    world.add(block)
    check(world)
    return len(block.transactions) - 1


@pytest.mark.parametrize("seed", range(4))
def test_invariants_hold_whatever_happens(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    spec = dataclasses.replace(SPEC, bounty_per_epoch=rng.choice([0, 1001]))
    world = World(
        tmp_path / "db", keys=7, spec=spec, funded=2, bootstrap=2, seats=rng.randint(1, 4), reveals_per_block=9,
        challenge_blocks=rng.randint(8, 24),
    )  # fmt: skip
    miners, reporters = (2, 3, 4), world.keys[5:]
    window = world.genesis.consensus.challenge_blocks
    counts = {"challenges": 0, "evidence": 0}
    for _ in range(EPOCHS):
        found = {}
        for miner in miners:
            found[miner] = [world.find(rng.randrange(14), rng.randint(90, 200)) for _ in range(rng.randint(1, 3))]
            world.facts.forged.update(find.leaves[2] for find in found[miner] if rng.random() < 0.5)
        world.competition(found)
        check(world)
        for _ in range(rng.randint(2, 10)):
            reporter = rng.choice(reporters)
            if rng.random() < 0.6:
                target = rng.choice(results(world))
                sent = [world.challenge(reporter, target.id, segment=rng.randint(0, 2))]
                counts["challenges"] += attempt(world, *sent)
            elif rng.random() < 0.5:
                header = world.block_at(rng.randint(max(1, world.chain.height - window), world.chain.height)).header
                counts["evidence"] += attempt(world, world.evidence(reporter, header, twin(world, header)))
            else:
                attempt(world)
    print(counts, sum(result.revoked for result in results(world)), "revoked")
    assert counts["challenges"] and counts["evidence"]
    assert world.chain.verify() == []
    rules = ConsensusRules(world.genesis, world.facts)
    with Store(tmp_path / "again", world.genesis.network) as store:
        again = Chain(store, rules)
        for height in range(1, world.chain.height + 1):
            again.add_block(world.block_at(height))
        assert again.tip == world.chain.tip
