"""Many small networks with random faults, and one large one: nothing that must not happen does, and all recover."""

import dataclasses

import pytest

from bench.consensus_simulated import by_size, one_run, summary
from bench.simulation.faults import random_case
from bench.simulation.report import RECOVERY_SLOTS, recover
from bench.simulation.setting import Setting
from bench.simulation.world import World


def check(seeds):
    found = summary([one_run(seed) for seed in seeds])
    print(f"seeds {seeds}: {found}")
    assert found["violations"] == []
    assert found["recovered"] == 1
    assert found["recovery_slots"]["most"] <= RECOVERY_SLOTS
    assert found["deepest_reorganisation_slots"] > 0
    assert found["bans_among_honest_nodes"] == 0


def test_networks_with_random_faults_recover():
    check(range(2, 7))


@pytest.mark.long
def test_many_networks_with_random_faults_recover():
    check(range(1000, 1150))


def test_cases_vary_and_keep_to_their_limits():
    cases = [random_case(seed) for seed in range(100)]
    parts = [len(setting.byzantine) / setting.miners for setting, _ in cases]
    assert max(parts) == pytest.approx(1 / 3)
    assert min(parts) == 0
    for setting, faults in cases:
        assert faults.calm <= setting.consensus.epoch_slots * (setting.epochs - 2)
        for partition in faults.partitions:
            assert partition.end - partition.start <= setting.ledger.max_rollback / 2
    assert sum(bool(faults.partitions) for _, faults in cases) > 30
    assert sum(bool(faults.outages) for _, faults in cases) > 30


def test_cost_of_a_node_grows_slower_than_the_network():
    found = by_size((10, 40))
    for growth in found["growth_of_cost_per_node"].values():
        assert growth < 0.75 * found["growth_of_nodes"]


@pytest.mark.long
def test_large_network_with_faults():
    """300 nodes and 60 miners for 6 epochs: a partition, crashes, late nodes and misbehaviour of every kind."""
    small, faults = random_case(15, nodes=300, miners=60, epochs=6)
    setting = dataclasses.replace(small, byzantine={place * 4: kind for place, kind in enumerate(KINDS)})
    world = World(setting)
    world.run(0.0, faults.plan)
    assert recover(world, faults) <= RECOVERY_SLOTS
    world.go_on(max(world.events.now, setting.end))
    assert world.observer.agreed(behind=3)


KINDS = (
    "silent", "censor", "equivocate", "withhold", "forge", "keep", "copy", "grind", "spam", "withhold", "fake",
    "fake-first", "fake-many", "accuse",
)  # fmt: skip


@pytest.mark.long
def test_thousand_nodes():
    """1,000 nodes and 200 miners for 2 epochs."""
    world = World(Setting(nodes=1000, miners=200, epochs=2, seed=1))
    world.run()
    assert world.observer.agreed()
    assert world.observer.seats.total() == 2 * world.setting.consensus.seats
