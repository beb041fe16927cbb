"""Members that fail, and members that lie: the pool's own code under virtual time, where only honesty and time matter.

`python -m bench.pool_faults [--quick]` prints the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import math
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.shares import NETWORK, hand_in
from chain.artifact import artifact_id
from chain.hashing import digest
from chain.keys import PrivateKey
from consensus.types import TaskSpec, task_id
from pool import resumption
from pool.audit import AuditPolicy
from pool.errors import NoLease, ShareRefused, StateRefused
from pool.leases import Lease
from pool.pool import Pool, PoolSettings
from pool.records import Checkpoint, Share, sign_checkpoint
from pool.search import RandomSearch
from pool.storage import MemoryStorage
from pool.work import Work

SAMPLES = 10_000
STEPS = 1000
REPORT_SECONDS = 10.0
TICK_SECONDS = 5.0
NO_AUDITS = AuditPolicy(new=0, trusted=0, best=0)
START = 1_800_000_000.0
STATE_BYTES = 1000  # as stated; nothing is uploaded


def the_work(closes: float) -> Work:
    """An epoch's search of a small task that nobody will train."""
    spec = TaskSpec(
        name="bench", dataset=bytes(32), dataset_bytes=1, height=14, width=14, channels=1, classes=10,
        test_samples=300, space="stages-v1", max_parameters=200_000, max_macs=2_000_000, steps=STEPS, batch=32,
        segments=8, learning_rate=256, eval_samples=300, baseline=1000, bounty_per_epoch=0,
    )  # fmt: skip
    return Work(1, task_id(spec, b""), spec, digest("bench", b"seed"), closes, SAMPLES)


def score_of(genotype: bytes) -> int:
    """A made-up validation score, the same for everyone."""
    return 5000 + int.from_bytes(digest("bench-score", genotype)[:2], "big") * 5000 // (1 << 16)


def leaves_of(work: Work, genotype: bytes, liar: bytes = b"") -> tuple[bytes, ...]:
    """The leaves of a training; those of a `liar` are its own, from a random leaf on."""
    seeds = [digest("bench-leaf", genotype, bytes([i])) for i in range(work.spec.segments + 1)]
    if liar:
        start = digest("bench-lie", liar, genotype)[0] % len(seeds)
        seeds[start:] = [digest("bench-leaf", genotype, liar, bytes([i])) for i in range(start, len(seeds))]
    return (*seeds, artifact_id(model_of(genotype, liar)))


def model_of(genotype: bytes, liar: bytes = b"") -> bytes:
    """What is uploaded."""
    return b"model " + genotype + liar


@dataclass(slots=True)
class Member:
    """A machine. `speed` is in MACs a second; it may fall silent at `silent_at` and slow down at `slow_at`."""

    key: PrivateKey
    speed: float
    fabricates: float = 0.0
    silent_at: float = float("inf")
    slow_at: float = float("inf")
    address: bytes = b""
    shares: int = 0
    lies: int = 0
    lease: Lease | None = None
    place: int = 0  # of the genotype in training
    step: float = 0.0
    at: float = 0.0
    kept: int = 0  # segments of the genotype in training whose state the pool has

    def __post_init__(self) -> None:
        self.address = self.key.address


@dataclass(slots=True)
class Site:
    """A pool and its members under virtual time."""

    pool: Pool
    work: Work
    members: list[Member]
    rng: random.Random
    slowdown: float = 5.0
    states: bool = False  # whether members keep the state of every segment with the pool
    now: float = START
    trained: int = 0
    worked: float = 0.0  # trainings, and parts of them
    resumed: int = 0
    leased: dict[bytes, float] = field(default_factory=dict)
    done: dict[bytes, float] = field(default_factory=dict)
    replayed: float = 0.0  # trainings that the pool itself did

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let members work until the time is over, or `stop` says so after a share."""
        order = itertools.count()
        events = [(self.now + self.rng.random(), next(order), member) for member in self.members]
        heapq.heapify(events)
        tick = self.now
        while events and events[0][0] < until and not stop():
            self.now, _, member = heapq.heappop(events)
            while tick <= self.now:
                self.pool.tick(tick)
                self.settle(tick)
                tick += TICK_SECONDS
            next_at = self.act(member)
            if next_at is not None:
                heapq.heappush(events, (next_at, next(order), member))

    def settle(self, now: float) -> None:
        """The pool trains again what is disputed, at once."""
        for replay in self.pool.replays(now):
            self.pool.resolve(replay, leaves_of(self.work, replay.genotype)[: replay.leaves], now)
            self.replayed += min(replay.leaves - 1, self.work.spec.segments) / self.work.spec.segments

    def act(self, member: Member) -> float | None:
        """What a machine does when its event comes; the time of its next one."""
        if self.now >= member.silent_at:
            return None
        if member.lease is None:
            try:
                member.lease = self.pool.lease(member.address, b"w", self.now)
            except NoLease as refused:
                return None if refused.code == "banned" else self.now + min(refused.retry, 5.0)
            for genotype in member.lease.genotypes:
                self.leased.setdefault(genotype, self.now)
            member.place, member.at = 0, self.now
            self.begin(member)
        genotype = member.lease.genotypes[member.place]
        speed = member.speed / (self.slowdown if self.now >= member.slow_at else 1.0)
        cost = self.pool.leases.cost(genotype)
        done = (self.now - member.at) * speed * self.rng.uniform(0.9, 1.1) / cost
        member.step += done
        self.worked += done / STEPS
        member.at = self.now
        steps = min(STEPS, int(member.step))
        if self.states:
            self.keep(member, genotype, steps)
        kept = self.pool.progress(member.address, b"w", member.lease.id, member.place * STEPS + steps, self.now)
        if steps == STEPS:
            self.finish(member, genotype)
            member.place += 1
            if member.place == len(member.lease.genotypes) or not kept:
                member.lease = None
            else:
                self.begin(member)
            return self.now
        return self.now + min(REPORT_SECONDS, (STEPS - member.step) * cost / speed + 0.01)

    def begin(self, member: Member) -> None:
        """A training begins, or goes on from a state."""
        member.step, member.kept = 0.0, 0
        if member.lease is None or not self.states:
            return
        genotype = member.lease.genotypes[member.place]
        for offer in resumption.offers(self.pool, member.address, member.lease.id, self.now):
            if offer.signed.checkpoint.genotype == genotype:
                handed = resumption.hand(self.pool, member.address, member.lease.id, genotype, self.now).checkpoint
                member.kept = len(handed.leaves) - 1
                member.step = float(STEPS * member.kept // self.work.spec.segments)
                self.resumed += 1

    def keep(self, member: Member, genotype: bytes, steps: int) -> None:
        """Upload the state of the last segment that has ended, where there is a new one."""
        segments = self.work.spec.segments
        done = steps * segments // STEPS
        if member.lease is None or not member.kept < done < segments:
            return
        member.kept = done
        leaves = leaves_of(self.work, genotype)[: done + 1]
        made = Checkpoint(
            NETWORK, 1, self.work.task, member.lease.id, genotype, leaves, STATE_BYTES, member.key.public
        )  # fmt: skip
        with contextlib.suppress(StateRefused):  # the lease was lost, or the training is another member's
            resumption.keep(self.pool, member.key.public, sign_checkpoint(made, member.key), self.now)

    def finish(self, member: Member, genotype: bytes) -> None:
        """A training is over: hand in the share, true or not."""
        if member.lease is None:
            raise RuntimeError("no lease")
        self.trained += 1
        lie = member.address if self.rng.random() < member.fabricates else b""
        leaves, model = leaves_of(self.work, genotype, lie), model_of(genotype, lie)
        share = Share(
            NETWORK, 1, self.work.task, member.lease.id, genotype, leaves, score_of(genotype), len(model),
            member.key.public,
        )  # fmt: skip
        try:
            hand_in(self.pool, member.key, share, model, self.now)
        except ShareRefused:
            return
        member.shares += 1
        member.lies += bool(lie)
        self.done.setdefault(genotype, self.now)


def new_site(seed: int, members: list[Member], closes: float, **changes: object) -> Site:
    """A pool with the default settings but for `changes`, and a blind strategy."""
    settings = PoolSettings(NETWORK, 1 << 20, strategy=RandomSearch(), **changes)  # type: ignore[arg-type]
    work = the_work(closes)
    pool = Pool(MemoryStorage(), settings, random.Random(seed))
    pool.set_work(work, START)
    return Site(pool, work, members, random.Random(seed + 1))


def key(*names: int) -> PrivateKey:
    """A key that nobody else has."""
    return PrivateKey(digest("bench-key", *(name.to_bytes(8, "big") for name in names)))


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
    none: dict[str, object] = {"backup_sigmas": math.inf, "silence_seconds": 1e9, "lease_seconds": 1e9}
    site = new_site(seed, members, START + EPOCH_SECONDS, audits=NO_AUDITS, **({} if backups else none))
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
