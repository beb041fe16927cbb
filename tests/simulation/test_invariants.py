"""The observer notices each breach that it is there for."""

import dataclasses

import pytest

from bench.simulation.behaviours import Behaviour
from bench.simulation.faults import Faults, Outage, Partition
from bench.simulation.observer import Observer, Violation
from bench.simulation.report import recover
from bench.simulation.setting import Setting
from bench.simulation.world import World
from chain import accounts
from chain.chain import Outcome, Status
from chain.types import Kind

SETTING = Setting(nodes=8, miners=6, epochs=2, seed=5)
HALVES = (0, 1) * 4


def test_quiet_network_keeps_everything():
    world = World(SETTING)
    world.run()
    assert world.observer.agreed()
    assert world.best.chain.height >= world.setting.consensus.start(2) - 1
    assert sum(world.observer.seats.values()) == world.setting.consensus.seats  # the second epoch's are pending
    assert world.observer.reorganisations == 0


def test_another_block_settled_is_noticed():
    """A partition longer than the rollback limit splits the network for ever; the protocol says so."""
    rollback = SETTING.ledger.max_rollback
    world = World(dataclasses.replace(SETTING, epochs=5))
    faults = Faults((Partition(5, 5 + 2.5 * rollback, HALVES),))
    with pytest.raises(Violation, match=r"settled another block at height \d+ \(seed 5, event \d+"):
        world.run(faults=faults.plan)


def test_coins_from_nowhere_are_noticed(monkeypatch):
    monkeypatch.setattr(accounts, "credit", _credit_one_more)
    world = World(SETTING)
    with pytest.raises(Violation, match="minted 5000000 and moved"):
        world.run()


def test_coins_from_nowhere_in_the_middle_of_a_branch_are_noticed(monkeypatch):
    """A reorganisation connects many blocks at once; only one of them, not the last, creates a coin."""
    world = World(SETTING)
    monkeypatch.setattr(world.observer, "on_tip", lambda node, outcome: None)
    world.run(3.9 * SETTING.slot_seconds)
    with monkeypatch.context() as patch:
        patch.setattr(accounts, "credit", _credit_one_more)
        world.go_on(4.9 * SETTING.slot_seconds)
    world.go_on(9.9 * SETTING.slot_seconds)
    chain = world.nodes[0].chain
    blocks = tuple(chain.block_at(height) for height in range(1, chain.height + 1))
    bad = next(block for block in blocks if block.header.slot == 4)
    observer = Observer(world)
    with pytest.raises(Violation, match=bad.id.hex()[:16]):
        observer.on_tip(world.nodes[0], Outcome(Status.REORG, blocks))


def _credit_one_more(state, address, amount):
    held = accounts.account(state, address)
    accounts.write(state, address, held.balance + amount + (address != accounts.IMMATURE), held.nonce)


def test_another_state_at_one_tip_is_noticed(monkeypatch):
    monkeypatch.setattr("bench.simulation.observer.tree_root", lambda nodes: bytes(32))
    with pytest.raises(Violation, match="another state"):
        World(SETTING).run()


class OtherSeed(Behaviour):
    """Trains with another seed than the epoch's. The chain cannot see that without challenges."""

    def seals(self, miner, epoch):
        other = dataclasses.replace(epoch, seed=bytes(32))
        return [dataclasses.replace(b, seed=epoch.seed) for b in miner.seal(epoch, miner.train(other))]


def test_seat_for_an_invalid_result_is_noticed():
    world = World(SETTING)
    world.nodes[2].behaviour = OtherSeed(world.nodes[2])
    with pytest.raises(Violation, match="rests on no valid result"):
        world.run()


FORGED = dataclasses.replace(SETTING, epochs=4, byzantine={2: "fake"})


def test_forged_result_that_keeps_its_seat_is_noticed(monkeypatch):
    """Honest minters leave challenges out."""
    World(FORGED).run()
    monkeypatch.setattr(Behaviour, "takes", lambda self, transaction: transaction.kind != Kind.CHALLENGE)
    with pytest.raises(Violation, match=r"is forged, and \d+ blocks left it where it was"):
        World(FORGED).run()


def test_genuine_result_that_is_revoked_is_noticed(monkeypatch):
    """Every challenge is believed."""
    monkeypatch.setattr("bench.simulation.oracle._refutes", lambda fact: True)
    with pytest.raises(Violation, match="was lost for nothing"):
        World(dataclasses.replace(SETTING, byzantine={2: "accuse"})).run()


def test_seat_that_an_honest_owner_loses_is_noticed(monkeypatch):
    """The observer is not told of equivocations, so their owners look honest."""
    monkeypatch.setattr("bench.simulation.justice.Justice.offended", lambda self, seat, slot: None)
    with pytest.raises(Violation, match="was lost for nothing"):
        World(dataclasses.replace(SETTING, byzantine={2: "equivocate"})).run()


def test_network_that_does_not_come_together_is_noticed():
    """Two nodes that mint nothing stay cut off."""
    world = World(dataclasses.replace(SETTING, epochs=3))
    world.network.partition([0, 0, 0, 0, 0, 0, 1, 1], [])
    world.run(0.0)
    with pytest.raises(Violation, match="48 slots after the last fault the honest nodes are at heights"):
        recover(world, Faults())


def test_crashed_node_comes_back_with_its_chain():
    world = World(SETTING)
    node = world.nodes[1]
    world.run(20.0, Faults(outages=(Outage(1, 15, 30),)).plan)
    world.go_on(35 * world.setting.slot_seconds - 1)
    assert node.alive
    world.go_on(world.setting.end)
    assert world.observer.agreed()
    assert len(world.honest) == SETTING.nodes


def test_late_node_catches_up():
    world = World(SETTING)
    faults = Faults(outages=(Outage(7, 0, 30),))
    world.run(0.0, faults.plan)
    assert not world.nodes[7].alive
    assert recover(world, faults) <= 5
