"""Transactions of every kind with changed contents, under the real rules: applied whole, or refused and no trace."""

import dataclasses
import random

import pytest

from chain import accounts
from chain.encoding import U64, Amount, PublicKey
from chain.errors import Invalid
from chain.ledger import apply_transaction
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import Kind, Output, TransferBody
from consensus.facts import FALSE, INVALID_MODEL, TRUE
from consensus.types import PublishBody
from tests.consensus.world import SPEC, World
from tests.fuzz.campaign import campaign
from tests.fuzz.inputs import drawer, mutated


class AnyFacts:
    """Every fact has some answer, or none, that depends on nothing but its key."""

    def get(self, key):
        return random.Random(key).choice((None, FALSE, TRUE, TRUE, INVALID_MODEL, 150))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """States in the phases of a competition, each with its world and a transaction of every kind that fits there."""
    found = []
    for phase in ("commit", "beacon", "key", "reveal"):
        world = World(tmp_path_factory.mktemp(phase) / "db")
        parameters, key = world.genesis.consensus, world.keys[1]
        spec = dataclasses.replace(SPEC, name="other", bounty_per_epoch=500)
        fitting = [
            world.sign(key, Kind.TRANSFER, TransferBody((Output(world.keys[2].address, 9),) * 3)),
            world.sign(key, Kind.PUBLISH, PublishBody(spec, 2, ()), fee=50_000),
        ]
        if phase == "key":
            world.mint(world.publish(key, spec, 2, splits=2))
            world.mint_to(16)
            world.mint()  # the next epoch is the published task's
        world.mint_to(1)
        finds = [world.find(1, 150), world.find(2, 120)]
        commit = world.commit(key, finds)
        if phase == "commit":
            fitting.append(commit)
        else:
            world.mint(commit)
            world.mint_to(parameters.commit_close + 1)
            nonce = accounts.account(world.chain.state, key.address).nonce
            fitting = [dataclasses.replace(each, nonce=nonce) for each in fitting]
            if phase == "beacon":
                fitting.append(world.beacon(key))
            elif phase == "key":
                fitting.append(world.show(key, 0))
            else:
                world.mint(world.beacon())
                world.mint_to(parameters.reveal_open)
                fitting.append(world.reveal(key, commit, finds, 0))
        world.rules.facts = AnyFacts()
        found.append((world, fitting))
    yield found
    for world, _ in found:
        world.store.close()


def changed(dice, transaction):
    """The transaction with one field, or something in its body, that is not what it was."""
    name = dice.choice(("kind", "nonce", "fee", "sender", "body", "body", "body", "body"))
    if name == "body":
        return dataclasses.replace(transaction, body=mutated(dice, transaction.body)[:65_000])
    value = drawer(_FIELDS[name])(dice) if name != "kind" else dice.randrange(10)
    return dataclasses.replace(transaction, **{name: value})


_FIELDS = {"nonce": U64, "fee": Amount, "sender": PublicKey}


def money(changes, before):
    """What `changes` add to all balances together; the fee goes to the coinbase, which comes last."""
    total = 0
    for key, value in changes.items():
        if key.startswith(accounts.ACCOUNT):
            old = before.get(key)
            total += 0 if value is None else accounts.Account.decode(value).balance
            total -= 0 if old is None else accounts.Account.decode(old).balance
    return total


def fuzz(scenes, inputs):
    counts = dict.fromkeys(("applied", "refused"), 0)
    applied, codes = set(), set()

    def trial(dice, tried):
        world, fitting = dice.choice(scenes)
        original = dice.choice(fitting)
        transaction = original if dice.random() < 0.05 else changed(dice, original)
        tried[:] = [transaction]
        chain = world.chain
        state = Overlay(chain.state)
        context = BlockContext(chain.height + 1, chain.tip.slot + 1, chain.tip.id, bytes(32))
        world.rules.begin_block(state, context)
        before = Overlay(chain.state)
        before.write(state.changes)
        try:
            apply_transaction(world.rules, state, context, transaction, 1)
        except Invalid as error:
            assert state.changes == before.changes
            counts["refused"] += 1
            codes.add(error.code)
        else:
            assert money(state.changes, before) == -transaction.fee
            assert accounts.supply(state) == accounts.supply(chain.state)
            counts["applied"] += 1
            applied.add(transaction.kind)

    campaign("transactions", inputs, trial)
    print(f"transactions: {counts}, kinds applied {sorted(applied)}, codes {sorted(codes)}")
    assert applied == {Kind.TRANSFER, Kind.PUBLISH, Kind.COMMIT, Kind.REVEAL, Kind.BEACON, Kind.KEY}
    assert counts["refused"] > inputs // 2 and {"bad_encoding", "missing_facts", "unknown_kind"} <= codes


def test_transactions(scenes):
    fuzz(scenes, 3_000)


@pytest.mark.long
def test_many_transactions(scenes):
    fuzz(scenes, 100_000)
