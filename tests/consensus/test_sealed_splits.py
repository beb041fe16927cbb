"""Sealed test splits: shown in time, late, never, or to nothing. Source: protocol C13."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from chain import accounts
from chain.errors import Invalid
from chain.types import CoinbaseBody
from consensus import records
from consensus.facts import FALSE, KeyFact, ScoreFact, fact_key
from consensus.types import EpochRecord, PublishBody, SealedSplit, TaskRecord, key_hash
from tests.consensus.world import CONSENSUS, SPEC, World, split_of

CLOSE, KEYS, OPEN, SETTLED = 8, 2, 11, 16  # offsets of the world's parameters; KEYS slots in which keys are taken
DEPOSIT, BOUNTY = CONSENSUS.split_deposit, 900
TASK = dataclasses.replace(SPEC, name="sealed", bounty_per_epoch=BOUNTY)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "db")


def published(world: World, epochs: int = 3, splits: int = 2) -> None:
    """Publish the task by key 2; ends where its first competition is open."""
    world.mint(world.publish(world.keys[2], TASK, epochs, splits))
    world.mint_to(SETTLED)
    world.mint()
    assert current(world).sealed == (split_of(0)[0] if splits else b"")


def current(world: World) -> EpochRecord:
    return records.current_epoch(world.chain.state)


def task(world: World, number: int) -> TaskRecord:
    epoch = records.epoch(world.chain.state, number)
    assert epoch is not None
    return records.need_task(world.chain.state, epoch.task)


def compete(world: World, show: int | None, score: int = 150) -> EpochRecord:
    """One competition with one result, in which the key of split `show` is shown; the epoch once it is settled."""
    number = current(world).number
    found = [world.find(number, score)]
    world.mint_to(1)
    commit = world.commit(world.keys[1], found)
    world.mint(commit)
    world.mint_to(CLOSE)
    if show is not None:
        world.mint(world.show(world.keys[2], show))
    world.mint_to(CLOSE + KEYS)
    world.mint(world.beacon())
    world.mint_to(OPEN)
    world.mint(world.reveal(world.keys[1], commit, found, 0))
    world.mint_to(SETTLED)
    world.mint()
    epoch = records.epoch(world.chain.state, number)
    assert epoch is not None and epoch.settled
    return epoch


def refused(world: World, transaction, slot: int | None = None) -> str:
    with pytest.raises(Invalid) as caught:
        world.apply(transaction, slot)
    return caught.value.code


def escrow(world: World) -> int:
    return accounts.account(world.chain.state, accounts.ESCROW).balance


def test_a_shown_key_judges_the_competition_and_brings_the_deposit_back(world: World) -> None:
    published(world)
    supply = accounts.supply(world.chain.state)
    epoch = compete(world, show=0)
    artifact, key = split_of(0)
    assert (epoch.sealed, epoch.key) == (artifact, key) and len(epoch.winners) == 1
    result = world.result(epoch.winners[0])
    spec = task(world, epoch.number).spec
    judged = ScoreFact(spec, result.genotype, result.model, result.model_bytes, epoch.beacon, artifact, key)
    assert world.facts.get(fact_key(judged)) == result.correct
    outputs = CoinbaseBody.decode(world.chain.block(world.chain.tip.id).transactions[0].body).outputs
    assert [o.amount for o in outputs if o.address == world.keys[2].address] == [DEPOSIT]
    blocks = world.chain.height - 16  # since the settlement before
    assert accounts.supply(world.chain.state) == supply + blocks * world.genesis.ledger.subsidy


def test_each_competition_has_a_split_of_its_own_and_then_the_public_one(world: World) -> None:
    published(world, epochs=3, splits=2)
    assert [compete(world, show=i).sealed for i in range(2)] == [split_of(0)[0], split_of(1)[0]]
    last = compete(world, show=None)
    assert last.sealed == last.key == b"" and last.winners


def test_without_a_key_the_deposit_burns_and_the_public_split_counts(world: World) -> None:
    published(world)
    supply, height = accounts.supply(world.chain.state), world.chain.height
    epoch = compete(world, show=None)
    assert epoch.sealed and not epoch.key and len(epoch.winners) == 1
    result = world.result(epoch.winners[0])
    spec = task(world, epoch.number).spec
    judged = ScoreFact(spec, result.genotype, result.model, result.model_bytes, epoch.beacon, b"", b"")
    assert world.facts.get(fact_key(judged)) == result.correct and result.reward == BOUNTY
    minted = (world.chain.height - height) * world.genesis.ledger.subsidy
    assert accounts.supply(world.chain.state) == supply + minted - DEPOSIT
    assert [split.artifact for split in task(world, epoch.number).splits] == [split_of(1)[0]]


def test_a_key_counts_from_the_close_of_commits_until_the_boundary(world: World) -> None:
    published(world)
    start = world.genesis.consensus.start(current(world).number)
    world.mint_to(1)
    world.mint()
    for offset, code in ((2, "key_closed"), (CLOSE - 1, "key_closed"), (CLOSE + KEYS, "key_closed")):
        assert refused(world, world.show(world.keys[2], 0), start + offset) == code
    for offset in (CLOSE, CLOSE + KEYS - 1):
        world.apply(world.show(world.keys[2], 0), start + offset)
    assert refused(world, world.show(world.keys[2], 1), start + CLOSE) == "wrong_key"
    assert refused(world, world.show(world.keys[2], 0, epoch=7), start + CLOSE) == "key_not_due"
    world.mint(world.show(world.keys[0], 0), slot=start + CLOSE)  # whoever has the key may show it
    assert refused(world, world.show(world.keys[2], 0), start + CLOSE + 1) == "key_known"


def test_an_epoch_without_a_sealed_split_takes_no_key(world: World) -> None:
    world.mint_to(CLOSE)
    assert refused(world, world.show(world.keys[2], 0)) == "key_not_due"


def test_no_delay_begins_before_the_key_is_out(world: World) -> None:
    """Were it otherwise, a publisher with a fast machine could know what either choice draws."""
    published(world)
    world.mint_to(CLOSE + KEYS - 1)
    assert refused(world, world.beacon()) == "beacon_not_due"
    assert refused(world, world.commit(world.keys[1], [world.find(1, 150)])) == "commit_closed"
    world.mint(world.show(world.keys[2], 0))
    tip = world.chain.tip.id
    world.mint(world.beacon())
    assert current(world).boundary == tip and current(world).beacon


def test_a_key_that_opens_nothing_is_refused_and_the_deposit_burns(world: World) -> None:
    published(world)
    world.facts.false.add(split_of(0)[1])
    world.mint_to(CLOSE)
    assert refused(world, world.show(world.keys[2], 0)) == "bad_split"
    fact = KeyFact(task(world, current(world).number).spec, *split_of(0))
    assert world.facts.get(fact_key(fact)) == FALSE
    before = escrow(world)
    world.mint_to(CLOSE + KEYS)
    world.mint(world.beacon())
    world.mint_to(SETTLED)
    world.mint()
    assert escrow(world) == before - DEPOSIT


@pytest.mark.parametrize("shown", [False, True])
def test_a_void_competition_keeps_a_split_that_is_still_sealed(world: World, shown: bool) -> None:
    published(world)
    number = current(world).number
    world.mint_to(CLOSE)
    if shown:
        world.mint(world.show(world.keys[2], 0))
    world.mint_to(SETTLED)
    world.mint()
    assert records.need_epoch(world.chain.state, number).void
    assert current(world).sealed == split_of(1 if shown else 0)[0]
    assert len(task(world, number).splits) == (1 if shown else 2)


def test_deposits_of_splits_that_were_never_used_come_back(world: World) -> None:
    published(world, epochs=1, splits=3)
    compete(world, show=0)
    assert records.ids(world.chain.state, records.FUNDED) == ()
    assert escrow(world) == world.genesis.consensus.reveal_bond
    outputs = CoinbaseBody.decode(world.chain.block(world.chain.tip.id).transactions[0].body).outputs
    assert [o.amount for o in outputs if o.address == world.keys[2].address] == [3 * DEPOSIT]


def test_splits_that_could_not_judge_are_refused(world: World) -> None:
    key, (artifact, secret) = world.keys[2], split_of(0)
    kind = world.publish(key, TASK, 1).kind
    for other in (SealedSplit(artifact, bytes(32)), SealedSplit(bytes(32), key_hash(secret))):
        body = PublishBody(TASK, 1, (SealedSplit(artifact, key_hash(secret)), other))
        assert refused(world, world.sign(key, kind, body)) == "splits_repeat"
    large = dataclasses.replace(TASK, test_samples=1 << 20)
    assert refused(world, world.publish(key, large, 1, splits=1)) == "dataset_too_large"
    world.apply(world.publish(key, large, 1))
    rest = world.balance(key) - BOUNTY - 20_000
    dear = dataclasses.replace(TASK, bounty_per_epoch=BOUNTY + rest - DEPOSIT + 1)
    assert refused(world, world.publish(key, dear, 1, splits=1)) == "insufficient_balance"
    world.apply(world.publish(key, dataclasses.replace(dear, bounty_per_epoch=dear.bounty_per_epoch - 1), 1, splits=1))


def test_a_key_is_undone_with_its_block_and_can_be_shown_again(tmp_path: Path) -> None:
    world, other = World(tmp_path / "one"), World(tmp_path / "other")
    published(world)
    world.mint_to(CLOSE)
    for height in range(1, world.chain.height + 1):
        other.add(world.block_at(height))
    other.slot = world.slot + 1  # the slot of the block with the key stays empty on the other branch
    shown = world.show(world.keys[2], 0)
    world.mint(shown)
    assert current(world).key == split_of(0)[1]
    empty = other.mint()
    world.add(empty)
    assert current(world).key, "as long a branch changes nothing"
    other.facts = world.facts
    world.add(other.mint())
    assert world.chain.tip == other.chain.tip and current(world).sealed and not current(world).key


@pytest.mark.parametrize("seed", range(4))
def test_escrow_holds_what_is_still_owed_whatever_happens(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    world = World(tmp_path / "db")
    published(world, epochs=4, splits=5)
    for _ in range(7):
        record = task(world, current(world).number)
        if not record.splits and not record.epochs_left:
            break
        split = next((i for i in range(5) if split_of(i)[0] == current(world).sealed), None)
        if dice.random() < 0.2:
            world.mint_to(CLOSE)
            if split is not None and dice.random() < 0.5:
                world.mint(world.show(world.keys[2], split))
            world.mint_to(SETTLED)
            world.mint()
        else:
            compete(world, split if dice.random() < 0.6 else None, score=dice.choice((99, 150)))
        left = records.task(world.chain.state, record.id)
        assert left is not None and (left.epochs_left or not left.splits)
        epochs = (records.epoch(world.chain.state, n) for n in range(current(world).number + 1))
        bonds = sum(
            result.bond for each in epochs if each is not None for result in records.results_of(world.chain.state, each)
        )
        assert escrow(world) == left.epochs_left * BOUNTY + len(left.splits) * DEPOSIT + bonds
