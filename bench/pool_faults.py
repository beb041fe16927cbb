"""Members that fail, and members that lie: the pool's own code under virtual time, where only honesty and time matter.

`python -m bench.pool_faults [--quick]` prints the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.pool_site import SETTINGS, START, STEPS, Member, key, new_site, score_of
from pool.audit import AuditPolicy

NO_AUDITS = AuditPolicy(new=0, trusted=0, best=0)

# --- failing members

MEMBERS = 30
MEAN_COST = 26_000_000
"""MACs of a step, on average over the space."""
EPOCH_SECONDS = 7200.0
TRAINING_SECONDS = 300.0
"""How long a member of median speed trains on average."""
HIGH_REWARD = 0.1
LEAD = 3
"""A high-reward task counts if it was first leased so many mean training times before the close, or earlier."""


@dataclass(frozen=True, slots=True)
class Failing:
    """One epoch: high-reward tasks, those with a result at the close; all trainings that ended, all results."""

    tasks: int
    completed: int
    trained: int
    results: int
    worked: float
    resumed: int


def failing(seed: int, backups: bool, states: bool = False) -> Failing:
    """One epoch in which a fifth of the members falls silent for good, and a fifth slows down, at random times."""
    rng = random.Random(seed)
    speed = STEPS * MEAN_COST / TRAINING_SECONDS
    members = [Member(key(seed, i), speed * rng.lognormvariate(0, 0.3)) for i in range(MEMBERS)]
    order = rng.sample(members, MEMBERS)
    fifth = MEMBERS // 5
    for member in order[:fifth]:
        member.silent_at = START + rng.random() * EPOCH_SECONDS
    for member in order[fifth : 2 * fifth]:
        member.slow_at = START + rng.random() * EPOCH_SECONDS
    settings = dataclasses.replace(SETTINGS, audits=NO_AUDITS)
    if not backups:
        settings = dataclasses.replace(settings, backup_sigmas=math.inf, silence_seconds=1e9, lease_seconds=1e9)
    site = new_site(seed, members, START + EPOCH_SECONDS, settings)
    site.states = states
    site.run(START + EPOCH_SECONDS)
    latest = START + EPOCH_SECONDS - LEAD * TRAINING_SECONDS
    early = [genotype for genotype, at in site.leased.items() if at <= latest]
    bar = sorted(map(score_of, early))[int(len(early) * (1 - HIGH_REWARD))]
    tasks = [genotype for genotype in early if score_of(genotype) >= bar]
    completed = sum(genotype in site.done for genotype in tasks)
    return Failing(len(tasks), completed, site.trained, len(site.done), site.worked, site.resumed)


def completion(runs: int, workers: ProcessPoolExecutor) -> dict[str, Any]:
    """Figures of failing members, with and without backups."""
    figures: dict[str, Any] = {"runs": runs}
    kinds = {"with_backups": (True, False), "without_backups": (False, False), "with_backups_and_states": (True, True)}
    for name, (backups, states) in kinds.items():
        outcomes = list(workers.map(failing, range(runs), itertools.repeat(backups), itertools.repeat(states)))
        tasks, results = sum(run.tasks for run in outcomes), sum(run.results for run in outcomes)
        figures[name] = {
            "high_reward_tasks": tasks,
            "completion": round(sum(run.completed for run in outcomes) / tasks, 5),
            "extra_trainings": round(sum(run.trained for run in outcomes) / results - 1, 4),
            "work_per_result": round(sum(run.worked for run in outcomes) / results, 4),
            "resumed_per_run": round(sum(run.resumed for run in outcomes) / runs, 2),
            "results_per_run": round(results / runs, 1),
        }
    return figures


# --- lying members

LIARS_PEERS = 7
SHARES = 100
FABRICATED = 0.1


@dataclass(frozen=True, slots=True)
class Lying:
    """One pool with one liar: shares that it handed in until it was caught, None where it was not; others banned."""

    shares: int | None
    lies: int
    honest_banned: int
    results: int
    doubled: int
    replayed: float


def lying(seed: int, honest_first: int = 0, most: int = SHARES) -> Lying:
    """A liar among honest members, until it is caught or has handed in more than `most` shares, and those in doubt
    are decided. It fabricates nothing among its first `honest_first` shares."""
    rng = random.Random(seed)
    speed = STEPS * MEAN_COST / TRAINING_SECONDS
    members = [Member(key(seed, i), speed * rng.lognormvariate(0, 0.3)) for i in range(1 + LIARS_PEERS)]
    liar = members[0]
    site = new_site(seed, members, START + 1e7)
    banned = site.pool.book.refuted
    if honest_first:
        site.run(START + 1e7, lambda: liar.shares >= honest_first)
    liar.fabricates, liar.shares = FABRICATED, 0
    site.run(START + 1e7, lambda: liar.address in banned or liar.shares > most)
    caught = liar.address in banned and liar.shares <= most
    return Lying(
        liar.shares if caught else None,
        liar.lies,
        len(banned.keys() - {liar.address}),
        len(site.done),
        site.trained - len(site.done),
        site.replayed,
    )


def cheating(runs: int, workers: ProcessPoolExecutor) -> dict[str, object]:
    """Figures of liars under the default rates of double leases."""
    fresh = list(workers.map(lying, range(runs), chunksize=8))
    sleepers = max(4, runs // 25)
    old = list(workers.map(lying, range(10_000, 10_000 + sleepers), itertools.repeat(200), itertools.repeat(2000)))
    return {
        "runs": runs,
        f"caught_within_{SHARES}_shares": round(sum(run.shares is not None for run in fresh) / runs, 4),
        "median_shares_until_caught": statistics.median(run.shares or math.inf for run in fresh),
        "mean_fabricated_shares_until_caught": round(statistics.mean(run.lies for run in fresh), 2),
        "honest_banned": sum(run.honest_banned for run in fresh + old),
        "pool_replays_per_liar": round(statistics.mean(run.replayed for run in fresh), 2),
        "after_200_honest_shares": {
            "runs": sleepers,
            "caught_within_2000_shares": round(sum(run.shares is not None for run in old) / sleepers, 4),
            "median_shares_until_caught": statistics.median(run.shares or math.inf for run in old),
        },
        "extra_trainings": cost(),
    }


def cost() -> dict[str, float]:
    """Double leases for each new result among honest members, by the shares that each has handed in before."""
    members = [Member(key(99, i), STEPS * MEAN_COST / TRAINING_SECONDS) for i in range(8)]
    site = new_site(99, members, START + 1e7)
    found, trained, results = {}, 0, 0
    for shares in (100, 200, 500, 1000):
        while sum(member.shares for member in members) < shares * len(members):
            site.run(site.now + 60)
        new = len(site.done) - results
        found[f"up_to_{shares}_shares"] = round((site.trained - trained - new) / new, 4)
        trained, results = site.trained, len(site.done)
    return found


def figures(options: argparse.Namespace) -> dict[str, object]:
    """`completion`: the part of high-reward tasks with a result; `cheating`: the part of liars that are caught in time.

    All the rest is in `faults`.
    """
    with ProcessPoolExecutor() as workers:
        failures = completion(4 if options.quick else 150, workers)
        lies = cheating(20 if options.quick else 1000, workers)
    return {
        "completion": failures["with_backups"]["completion"],
        "cheating": lies[f"caught_within_{SHARES}_shares"],
        "faults": {"completion": failures, "cheating": lies},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    print(json.dumps(figures(parser.parse_args()), indent=2))
