"""What misbehaviour of some kind does to a network, by the share of seats and compute that misbehaves."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from bench.simulation.report import byzantine_seats, fork_rate
from bench.simulation.setting import Setting, spread
from bench.simulation.world import World
from consensus import records


@dataclass(frozen=True, slots=True)
class Harm:
    """What came of an attack. Shares are parts of one.

    `growth`: blocks of the chain per slot. `fork_rate`: honest blocks that were lost. `deepest`: slots that an honest
    node went back. `seats`: seats that the attackers won, where `compute` was their part of the trainings. `void`:
    epochs that gave no seats.
    """

    growth: float
    fork_rate: float
    deepest: int
    seats: float
    compute: float
    void: float
    bans_of_honest: int
    bans_of_byzantine: int


def attack(
    kind: str, share: float, seed: int, nodes: int = 24, miners: int = 20, epochs: int = 4, seats: int = 24
) -> World:
    """A network of equal miners that has run, `share` of them misbehaving; they own as much of the first seats.

    Each miner trains four times and may open all of it, so that there are more results than seats.
    """
    byzantine = spread([kind] * round(share * miners), miners)
    setting = Setting(nodes, miners, epochs, seed, byzantine=byzantine, reveals=4).with_parameters(seats=seats)
    world = World(setting)
    world.run()
    return world


def harm(world: World) -> Harm:
    """What the attack in `world` did."""
    observer, setting, chain = world.observer, world.setting, world.best.chain
    miners = [node.miner for node in world.nodes if node.miner is not None]
    compute = sum(miner.compute for miner in miners if not miner.node.behaviour.honest)
    epochs = [records.epoch(chain.state, number) for number in range(setting.epochs - 1)]
    return Harm(
        growth=chain.height / setting.consensus.slot_at(world.events.now),
        fork_rate=fork_rate(world),
        deepest=observer.deepest,
        seats=byzantine_seats(world),
        compute=compute / sum(miner.compute for miner in miners),
        void=sum(epoch is None or not epoch.winners for epoch in epochs) / max(1, len(epochs)),
        bans_of_honest=observer.bans["honest"],
        bans_of_byzantine=observer.bans["byzantine"],
    )


def average(found: list[Harm]) -> dict[str, float]:
    """Mean of each number."""
    return {name: round(fmean(getattr(one, name) for one in found), 4) for name in Harm.__slots__}
