"""Consensus in the simulator: faults, forks and cost by size, attacks by share, fairness."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.simulation import fairness
from bench.simulation.attacks import Harm, attack, average, harm
from bench.simulation.faults import random_case
from bench.simulation.kinds import KINDS
from bench.simulation.observer import Violation
from bench.simulation.report import fork_rate, propagation, recover
from bench.simulation.setting import Setting
from bench.simulation.world import World

SIZES: tuple[int, ...] = (10, 100, 1000)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the parts that are simulated."""
    add = parser.add_argument
    add("--runs", type=int, default=1000, help="simulated networks with random faults (default: %(default)s)")
    add("--first-seed", type=int, default=0, help="of these networks (default: %(default)s)")
    add(
        "--fair-epochs", type=int, default=300, help="epochs of each network that shows fairness (default: %(default)s)"
    )
    add("--attack-seeds", type=int, default=6, help="networks for each attack and share (default: %(default)s)")
    add("--processes", type=int, default=os.cpu_count() or 1, help="of the simulated parts (default: one per core)")


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Figures of all simulated parts. `options.quick`: a hundredth of the runs, ten and a hundred nodes, 30 epochs."""
    runs, sizes = options.runs, SIZES
    epochs, seeds = options.fair_epochs, options.attack_seeds
    if options.quick:
        runs, sizes, epochs, seeds = max(10, runs // 100), SIZES[:2], 30, 1
    with multiprocessing.get_context("spawn").Pool(options.processes) as workers:
        fair, size = workers.apply_async(fairness.figures, (epochs,)), workers.apply_async(by_size, (sizes,))
        faults = workers.map(one_run, range(options.first_seed, options.first_seed + runs), chunksize=4)
        cases = [(kind, share, seeds) for kind in sorted(KINDS) for share in SHARES]
        attacks = dict(zip(cases, workers.map(one_attack, cases, chunksize=1), strict=True))
        by_parts = {**size.get(), "fairness": fair.get()}
    return {
        "simulated_faults": summary(faults),
        **by_parts,
        "attacks": {kind: {str(share): attacks[kind, share, seeds] for share in SHARES} for kind in sorted(KINDS)},
    }


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one network with random faults. `slots` until it had recovered, None where it did not."""

    seed: int
    violation: str | None
    slots: int | None
    deepest: int
    misbehaving: float
    bans_of_honest: int


def one_run(seed: int) -> Run:
    """Simulate one network of 20 nodes with random faults and up to a third of misbehaving seat owners."""
    setting, faults = random_case(seed)
    world = World(setting)
    slots = violation = None
    try:
        world.run(0.0, faults.plan)
        slots = recover(world, faults)
        world.go_on(max(world.events.now, setting.end))
    except Violation as error:
        violation = str(error)
    seen = world.observer
    return Run(seed, violation, slots, seen.deepest, len(setting.byzantine) / setting.miners, seen.bans["honest"])


def summary(runs: Sequence[Run]) -> dict[str, object]:
    """What has a bar first: violations, and the part of the networks that recovered."""
    slots = [run.slots for run in runs if run.slots is not None]
    return {
        "runs": len(runs),
        "violations": [run.violation for run in runs if run.violation is not None],
        "recovered": len(slots) / len(runs),
        "recovery_slots": {"median": median(slots), "most": max(slots)},
        "deepest_reorganisation_slots": max(run.deepest for run in runs),
        "largest_part_of_misbehaving_miners": round(max(run.misbehaving for run in runs), 4),
        "bans_among_honest_nodes": sum(run.bans_of_honest for run in runs),
    }


def by_size(sizes: Sequence[int]) -> dict[str, object]:
    """Forks, propagation and cost of honest networks by number of nodes. All do the same: 10 miners for 4 epochs."""
    forks, delays, messages, kilobytes = {}, {}, {}, {}
    for nodes in sizes:
        world = World(Setting(nodes=nodes, miners=min(nodes, 10), epochs=4, seed=1))
        world.run()
        forks[nodes], delays[nodes] = fork_rate(world), propagation(world)
        messages[nodes] = round(world.network.messages / nodes)
        kilobytes[nodes] = round(world.network.bytes / nodes / 1000)
    costs = {"messages_per_node": messages, "kilobytes_per_node": kilobytes}
    return {
        "fork_rate": forks,
        "propagation_ms": delays,
        **costs,
        "growth_of_nodes": round(sizes[-1] / sizes[0], 2),
        "growth_of_cost_per_node": {name: round(cost[sizes[-1]] / cost[sizes[0]], 2) for name, cost in costs.items()},
    }


def one_attack(case: tuple[str, float, int]) -> dict[str, float]:
    """Mean harm of an attack by a share of the miners; `violations` counts networks in which an invariant broke."""
    kind, share, seeds = case
    found: list[Harm] = []
    for seed in range(seeds):
        with contextlib.suppress(Violation):
            found.append(harm(attack(kind, share, seed)))
    return {"violations": seeds - len(found), **(average(found) if found else {})}
