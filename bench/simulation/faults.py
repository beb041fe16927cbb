"""Faults of a simulated network: partitions, crashes, nodes that come late; and settings with random ones of all."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from bench.simulation.kinds import KINDS
from bench.simulation.setting import BOOTSTRAP, Setting
from bench.simulation.world import World


@dataclass(frozen=True, slots=True)
class Partition:
    """From `start` to `end`, in slots, the nodes fall into groups: `group` has a number for each node."""

    start: float
    end: float
    group: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """A node is down from `start` to `end`, in slots; from 0: it joins late."""

    node: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls a network. After `calm`, in slots, nothing does any more."""

    partitions: tuple[Partition, ...] = ()
    outages: tuple[Outage, ...] = ()

    @property
    def calm(self) -> float:
        """When the last fault is over."""
        ends = [partition.end for partition in self.partitions] + [outage.end for outage in self.outages]
        return max(ends, default=0.0)

    def plan(self, world: World) -> None:
        """Plan everything in `world`, before it runs."""
        seconds = world.setting.slot_seconds
        for partition in self.partitions:
            group = list(partition.group)
            world.events.at(partition.start * seconds, world.network.partition, group, world.nodes)
            world.events.at(partition.end * seconds, world.network.partition, None, world.nodes)
        for outage in self.outages:
            node = world.nodes[outage.node]
            if outage.start:
                world.events.at(outage.start * seconds, node.stop)
            else:
                world.late.add(outage.node)
            world.events.at(outage.end * seconds, node.start)


def random_case(seed: int, nodes: int = 20, miners: int = 12, epochs: int = 5) -> tuple[Setting, Faults]:
    """A network with random faults, and misbehaving owners of up to a third of its seats.

    Faults end well before the last epoch does, and within `max_rollback` slots from genesis: a node that comes late
    into a partition could else be apart from the others for longer, which splits a network for good. A partition
    lasts at most half of that.
    """
    rng = random.Random(f"{seed} faults")
    setting = Setting(nodes, miners, epochs, seed).with_parameters(seat_epochs=rng.choice((2, 3)))
    most = miners // 3
    owners = min(BOOTSTRAP, miners)  # of the bootstrap seats
    first = rng.sample(range(owners), rng.randrange(owners // 3 + 1))
    more = min(rng.randrange(most + 1), most - len(first), miners - owners)
    bad = first + rng.sample(range(owners, miners), more)
    offsets = {node: rng.uniform(-0.9, 0.9) * setting.slot_seconds for node in rng.sample(range(nodes), nodes // 4)}
    setting = dataclasses.replace(
        setting,
        compute=tuple(rng.randint(2, 6) for _ in range(miners)),
        byzantine={node: rng.choice(sorted(KINDS)) for node in bad},
        loss=rng.choice((0.0, 0.01, 0.05)),
        offsets=offsets,
    )
    last = min(setting.consensus.epoch_slots * (epochs - 2), setting.ledger.max_rollback)
    partitions = []
    if rng.random() < 0.6:
        start = rng.uniform(2, last - 2)
        length = rng.uniform(2, min(last - start, setting.ledger.max_rollback / 2))
        share = rng.uniform(0.1, 0.5)
        partitions.append(Partition(start, start + length, tuple(int(rng.random() < share) for _ in range(nodes))))
    outages = []
    for node in rng.sample(range(nodes), rng.randrange(nodes // 4 + 1)):
        start = 0.0 if rng.random() < 0.3 else rng.uniform(1, last - 2)
        outages.append(Outage(node, start, rng.uniform(start + 1, last)))
    return setting, Faults(tuple(partitions), tuple(outages))
