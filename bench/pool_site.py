"""A pool and machines that pretend to train, under virtual time: some of them fail, some of them lie."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.shares import NETWORK, hand_in
from chain.artifact import artifact_id
from chain.hashing import digest
from chain.keys import PrivateKey
from consensus.types import TaskSpec, task_id
from pool import resumption
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
SETTINGS = PoolSettings(NETWORK, 1 << 20, strategy=RandomSearch())
"""The default settings with a blind strategy."""
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


def new_site(seed: int, members: list[Member], closes: float, settings: PoolSettings = SETTINGS) -> Site:
    """A pool at START with a task that closes at `closes`, and its members."""
    work = the_work(closes)
    pool = Pool(MemoryStorage(), settings, random.Random(seed))
    pool.set_work(work, START)
    return Site(pool, work, members, random.Random(seed + 1))


def key(*names: int) -> PrivateKey:
    """A key that nobody else has."""
    return PrivateKey(digest("bench-key", *(name.to_bytes(8, "big") for name in names)))
