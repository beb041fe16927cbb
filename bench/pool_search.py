"""Rounds until a pool of equal members finds one of the best architectures of a table, against solo miners."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from bench import tpe
from bench.search_runs import (
    CURVE,
    Outcome,
    Setting,
    independent,
    no_clock,
    partition,
    rounds_after_a_blind_one,
    search,
)
from bench.table import load
from pool.pool import PoolSettings
from pool.search import STRATEGIES, Strategy, Surrogate

PUBLISHED_TARGET = 94.2
Key = tuple[str, int]
"""Strategy and number of members."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add = parser.add_argument
    add("--table", type=Path, metavar="FILE", help="a CSV of architecture and score in per cent (default: the trained)")
    add("--space", default="nb201-v1", help="search space of --table (default: %(default)s)")
    add(
        "--target", type=float,
        help=f"score to reach (default: {PUBLISHED_TARGET} with --table, else that of the best 0.3 %% of the table)",
    )  # fmt: skip
    add("--seeds", type=int, default=200, help="searches of each kind (default: %(default)s)")
    add("--members", type=int, nargs="+", default=[4, 16, 64], help="sizes of the pool (default: 4 16 64)")
    add("--strategies", nargs="+", choices=sorted(STRATEGIES), default=sorted(STRATEGIES), help="default: all")
    add("--lease-size", type=int, default=PoolSettings(b"", 1).lease_size, help="default: %(default)s")
    add("--most", type=int, default=2000, help="evaluations after which a search gives up (default: %(default)s)")
    add("--partition-seeds", type=int, default=10, help="searches by static partition (default: %(default)s)")


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Speedups of the best pool over the best and the average solo miner, and what each strategy does.

    Where optuna is installed, its TPE is one of the solo miners. `options.quick`: 10 seeds, pools of 4 and 16.
    """
    table = load(options.table, options.space)
    scores = sorted(table.scores.values(), reverse=True)
    target = options.target
    if target is None:
        target = PUBLISHED_TARGET if options.table is not None else scores[max(0, round(0.003 * len(scores)) - 1)]
    setting = Setting(table, target, options.most, options.lease_size)
    seeds, members, parts = options.seeds, options.members, options.partition_seeds
    if options.quick:
        seeds, members, parts = 10, [4, 16], 1
    strategies = {name: under_virtual_time(STRATEGIES[name]) for name in options.strategies}
    runs = {
        (name, count): [search(setting, strategy, count, seed) for seed in range(seeds)]
        for name, strategy in strategies.items()
        for count in (1, *members)
    }
    if tpe.available():
        runs["tpe", 1] = [tpe.search(setting, seed) for seed in range(seeds)]
    rounds = {key: fmean(run.rounds for run in found) for key, found in runs.items()}
    best_solo = min((name for name, count in rounds if count == 1), key=lambda name: rounds[name, 1])
    best_own = strategies[min(strategies, key=lambda name: rounds[name, 1])]
    everything = [run for found in runs.values() for run in found]
    return {
        "target": target,
        "architectures": len(scores),
        "architectures_at_target": sum(score >= target for score in scores),
        "seeds": seeds,
        "best_solo": best_solo,
        **speedups(rounds, members),
        "redundant_work": sum(run.repeated for run in everything) / sum(run.evaluations for run in everything),
        "rounds": by_name(rounds),
        "standard_error_of_rounds": by_name({key: _standard_error(found) for key, found in runs.items()}),
        "evaluations": by_name({key: fmean(run.evaluations for run in found) for key, found in runs.items()}),
        "gave_up": sum(run.evaluations >= options.most for run in everything),
        "rounds_of_independent_miners": {
            f"N{count}": round(independent([run.rounds for run in runs[best_solo, 1]], count), 2) for count in members
        },
        "rounds_of_a_static_partition": {
            f"N{count}": fmean(partition(setting, best_own, count, seed) for seed in range(parts))
            for count in members
            if parts
        },
        "rounds_if_only_the_first_is_blind": {
            f"N{count}": round(rounds_after_a_blind_one(setting, count), 3) for count in members
        },
        "curve_evaluations": CURVE,
        "curves": {f"{name}.N{count}": _curve(found) for (name, count), found in runs.items()},
    }


def under_virtual_time(strategy: Strategy) -> Strategy:
    """The strategy with a clock that stands still: a round of the benchmark is as long as it needs."""
    return replace(strategy, clock=no_clock) if isinstance(strategy, Surrogate) else strategy


def speedups(rounds: dict[Key, float], members: list[int]) -> dict[str, dict[str, float]]:
    """Of the best strategy in a pool of each size, over the best and over the average strategy alone."""
    pool = {size: min(found for (_, count), found in rounds.items() if count == size) for size in members}
    solo = [found for (_, count), found in rounds.items() if count == 1]
    best, average = min(solo), fmean(solo)
    return {
        "speedup": {f"N{count}": round(best / found, 3) for count, found in pool.items()},
        "speedup_over_average_solo": {f"N{count}": round(average / found, 3) for count, found in pool.items()},
    }


def by_name(values: dict[Key, float]) -> dict[str, dict[str, float]]:
    """Values of each strategy, by number of members."""
    found: dict[str, dict[str, float]] = {}
    for (name, count), value in values.items():
        found.setdefault(name, {})[f"N{count}"] = round(value, 2)
    return found


def _standard_error(runs: list[Outcome]) -> float:
    """Of the mean number of rounds; 0 for one search."""
    return stdev(run.rounds for run in runs) / math.sqrt(len(runs)) if len(runs) > 1 else 0.0


def _curve(runs: list[Outcome]) -> list[float]:
    """Mean of the best score so far; a search that is over keeps its best."""
    return [round(fmean(run.best[place] for run in runs), 3) for place in range(len(CURVE))]
