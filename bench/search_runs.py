"""Searches of a table under virtual time: by the real pool, by solo miners, by a static partition."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from bench.shares import NETWORK, hand_in
from bench.table import Table
from chain.artifact import artifact_id
from chain.hashing import digest
from chain.keys import PrivateKey
from consensus.spaces.base import Cost
from consensus.types import task_id
from pool.audit import AuditPolicy
from pool.leases import Lease
from pool.pool import Pool, PoolSettings
from pool.records import Share
from pool.search import Archive, Strategy
from pool.storage import MemoryStorage
from pool.subspace import Domain
from pool.work import Candidate, Work

SAMPLES = 100_000
"""Validation samples of the task: scores in per cent are kept to a thousandth."""
ROUND_SECONDS = 30.0
CURVE = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Evaluations at which the best score so far is reported."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One search: rounds and evaluations to the target, evaluations that repeated another, best score so far."""

    rounds: int
    evaluations: int
    repeated: int
    best: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What all searches of a benchmark have in common; a search gives up after `most` evaluations."""

    table: Table
    target: float
    most: int
    lease_size: int = 1


class Part(Domain):
    """What one searcher of a static partition may train: the `number`-th of `parts` groups of subspaces."""

    def __init__(self, table: Table, number: int, parts: int) -> None:
        super().__init__(table.spec, parts)
        self._own = tuple(self.partition.leaves)[number::parts]
        self._scores = table.scores

    @property
    def prefixes(self) -> tuple[bytes, ...]:
        """See `Domain`."""
        return tuple(prefix for prefix in self.partition.leaves if prefix.startswith(self._own))

    def inhabited(self) -> bool:
        """Whether the task admits anything here."""
        return any(genotype.startswith(self._own) for genotype in self._scores)

    def cost(self, genotype: bytes) -> Cost | None:
        """See `Domain`; None outside the part."""
        return super().cost(genotype) if genotype.startswith(self._own) else None


def search(setting: Setting, strategy: Strategy, members: int, seed: int) -> Outcome:
    """A pool of equal members: in a round each of them trains one architecture of its lease and hands it in.

    Without double leases: they check work, they do not search. What they cost is a figure of its own.
    """
    table = setting.table
    work = Work(1, task_id(table.spec, b""), table.spec, bytes(32), 1e9, SAMPLES)
    settings = PoolSettings(
        NETWORK, 1 << 20, lease_size=setting.lease_size, strategy=strategy, audits=AuditPolicy(new=0, trusted=0, best=0)
    )
    pool = Pool(MemoryStorage(), settings, random.Random(f"{strategy.name} {members} {seed}"))
    pool.set_work(work, 0.0)
    keys = [PrivateKey(digest("bench-key", number.to_bytes(4, "big"))) for number in range(members)]
    trained, scores, rounds, repeated = set[bytes](), list[float](), 0, 0
    while len(scores) < min(setting.most, len(table.scores)):
        now = rounds * ROUND_SECONDS
        rounds += 1
        leases = [pool.lease(key.address, b"worker", now) for key in keys]
        for key, lease in zip(keys, leases, strict=True):
            genotype = lease.genotypes[0]
            repeated += genotype in trained
            trained.add(genotype)
            scores.append(table.scores[genotype])
            _hand_in(pool, work, key, lease, scores[-1], now + ROUND_SECONDS)
        if max(scores) >= setting.target:
            break
    return Outcome(rounds, len(scores), repeated, curve(scores))


def curve(scores: list[float]) -> tuple[float, ...]:
    """The best of the first scores, as many as `CURVE` says."""
    return tuple(max(scores[:count]) for count in CURVE)


def partition(setting: Setting, strategy: Strategy, members: int, seed: int) -> int:
    """Rounds to the target where each member searches its own part with its own results."""
    table = setting.table
    found = setting.most // members
    for number in range(members):
        domain = Part(table, number, members)
        if not domain.inhabited():
            continue
        archive, rng = Archive(domain), random.Random(f"partition {members} {number} {seed}")
        while len(archive) < found:
            genotype = strategy.propose(archive, (), rng)
            if genotype is None:
                break
            score = table.scores[genotype]
            archive.add(Candidate(genotype, (), b"", 0, round(score * SAMPLES / 100), SAMPLES, b""))
            if score >= setting.target:
                found = len(archive)
    return found


def independent(rounds: Sequence[int], members: int) -> float:
    """Mean rounds of the first of `members` that search alone, each like one of the solo searches."""
    total = len(rounds)
    behind = [((total - place) / total) ** members for place in range(total + 1)]
    return sum(value * (behind[place] - behind[place + 1]) for place, value in enumerate(sorted(rounds)))


def rounds_after_a_blind_one(setting: Setting, members: int) -> float:
    """Mean rounds of a pool whose first round is uniformly drawn, and whose second always reaches the target."""
    total = len(setting.table.scores)
    good = sum(score >= setting.target for score in setting.table.scores.values())
    return 1 + comb(total - good, members) / comb(total, members)


def no_clock() -> float:
    """Time stands still for strategies: under virtual time, what they compute takes none."""
    return 0.0


def _hand_in(pool: Pool, work: Work, key: PrivateKey, lease: Lease, score: float, now: float) -> None:
    genotype, model = lease.genotypes[0], b"model " + lease.genotypes[0]
    correct = round(score * SAMPLES / 100)
    leaves = (*(digest("leaf", genotype, bytes([place])) for place in range(2)), artifact_id(model))
    share = Share(NETWORK, work.epoch, work.task, lease.id, genotype, leaves, correct, len(model), key.public)
    hand_in(pool, key, share, model, now)
