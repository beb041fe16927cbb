"""What a pool does to a member's rewards, and how fast a pool with a long ledger starts."""

from __future__ import annotations

import dataclasses
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import plyvel

from bench.shares import NETWORK, hand_in
from chain.artifact import artifact_id
from chain.failures import Guard
from chain.hashing import digest
from chain.keys import PrivateKey
from chain.namespace import Namespace
from consensus.spaces import get_space
from consensus.split import split
from consensus.types import Payout, TaskSpec, task_id
from pool import snapshot
from pool.payouts import table
from pool.pool import Pool, PoolSettings
from pool.records import (
    PaidEntry,
    RoundEntry,
    Share,
    ShareEntry,
    SignedShare,
    Terms,
    WorkEntry,
    WorkRecord,
)
from pool.search import RandomSearch
from pool.storage import MemoryStorage, NamespaceStorage, Writes
from pool.work import Work

MEMBERS, OUTSIDERS = 16, 48
TRAININGS = 4  # of every miner in every epoch
SEATS, SLOTS = 8, 120  # seats of an epoch, and slots that its seats mint in
SLOT_REWARD, BOUNTY = 1_000_000, 40_000_000
SAMPLES, LEVEL, SPREAD, BASELINE = 2000, 1500, 60, 1000  # validation split, scores of one training, what earns nothing
SETTLED_AFTER = 2  # epochs until a seat is deep enough in the chain to settle its round
LIMIT = 64
MODEL = b"m"


@dataclasses.dataclass(frozen=True)
class Epoch:
    """Scores by miner, members first, and what a fixed lottery pays to each rank among the winners."""

    scores: list[list[int]]
    winners: list[tuple[int, int]]  # (miner, number of its training), best first
    rewards: list[int]


def draw_epoch(rng: random.Random) -> Epoch:
    """One epoch: everybody trains, the best results take the seats, and each slot's coinbase goes to a random seat.

    All trainings are of distinct architectures. Solo miners do not know of each other and would repeat some, which
    would cost them, so this is in their favour.
    """
    scores = [
        [min(SAMPLES, max(0, round(rng.gauss(LEVEL, SPREAD)))) for _ in range(TRAININGS)]
        for _ in range(MEMBERS + OUTSIDERS)
    ]
    order = [(-score, rng.random(), miner, i) for miner, row in enumerate(scores) for i, score in enumerate(row)]
    winners = [(miner, i) for _, _, miner, i in sorted(order)[:SEATS]]
    slots = Counter(rng.randrange(SEATS) for _ in range(SLOTS))
    bounty = split(BOUNTY, [scores[miner][i] - BASELINE for miner, i in winners])
    return Epoch(scores, winners, [slots[seat] * SLOT_REWARD + bounty[seat] for seat in range(SEATS)])


def solo_rewards(epochs: list[Epoch]) -> list[list[int]]:
    """Rewards by miner (the members only) and epoch, where everybody competes alone."""
    found = [[0] * len(epochs) for _ in range(MEMBERS)]
    for number, epoch in enumerate(epochs):
        for (miner, _), reward in zip(epoch.winners, epoch.rewards, strict=True):
            if miner < MEMBERS:
                found[miner][number] += reward
    return found


def pool_rewards(epochs: list[Epoch], terms: Terms, seed: int) -> list[list[int]]:
    """Rewards by member and epoch, where the members share a pool: the same trainings, the same seats."""
    settings = PoolSettings(NETWORK, 1 << 20, lease_size=TRAININGS, strategy=RandomSearch(), terms=terms)
    pool = Pool(MemoryStorage(), settings, random.Random(seed))
    keys = [PrivateKey(digest("bench-member", bytes([number]))) for number in range(MEMBERS)]
    index = {key.address: number for number, key in enumerate(keys)}
    found = [[0] * len(epochs) for _ in range(MEMBERS)]
    waiting: list[tuple[int, list[tuple[bytes, tuple[Payout, ...]]]]] = []
    for number, epoch in enumerate(epochs):
        now = number * 600.0
        work = make_work(number, now + 500)
        pool.set_work(work, now)
        results = {
            (miner, i): _submit(pool, work, key, epoch.scores[miner], i, now)
            for miner, key in enumerate(keys)
            for i in range(TRAININGS)
        }
        won: list[tuple[bytes, tuple[Payout, ...]]] = []
        for seat, reward in zip(epoch.winners, epoch.rewards, strict=True):
            candidate = pool.archive.get(results[seat]) if pool.archive is not None and seat in results else None
            if candidate is None:
                continue
            lines = pool.payouts_for(candidate, LIMIT)
            won.append((digest("result", number.to_bytes(8, "big"), candidate.genotype), lines))
            for line, amount in zip(lines, split(reward, [line.weight for line in lines]), strict=True):
                if line.address in index:
                    found[index[line.address]][number] += amount
        waiting.append((number, won))
        if len(waiting) > SETTLED_AFTER:
            _settle(pool, *waiting.pop(0))
    return found


def _settle(pool: Pool, number: int, won: list[tuple[bytes, tuple[Payout, ...]]]) -> None:
    for result, lines in won:
        pool.table_paid(result, number, lines)
    if not won:
        pool.round_void(number)


def _submit(pool: Pool, work: Work, key: PrivateKey, scores: list[int], i: int, now: float) -> bytes:
    """A member leases, trains and hands in its `i`-th training; answers the genotype."""
    lease = pool.lease(key.address, b"w", now)
    genotype = lease.genotypes[0]
    hand_in(pool, key, make_share(work, lease.id, genotype, key.public, scores[i]), MODEL, now)
    return genotype


def make_work(number: int, closes: float) -> Work:
    """The search of an epoch."""
    spec = TaskSpec(
        name="bench", dataset=bytes(32), dataset_bytes=1, height=8, width=8, channels=1, classes=10, test_samples=300,
        space="stages-v1", max_parameters=100_000, max_macs=5_000_000, steps=20, batch=8, segments=2,
        learning_rate=256, eval_samples=300, baseline=10_000 * BASELINE // SAMPLES, bounty_per_epoch=0,
    )  # fmt: skip
    return Work(number, task_id(spec, b""), spec, digest("seed", number.to_bytes(8, "big")), closes, SAMPLES)


def make_share(work: Work, lease: int, genotype: bytes, member: bytes, score: int) -> Share:
    """A share as a member would send it."""
    leaves = (digest("a", genotype), digest("b", genotype), digest("c", genotype), artifact_id(MODEL))
    return Share(NETWORK, work.epoch, work.task, lease, genotype, leaves, score, len(MODEL), member)


def rewards(seeds: int, epochs: int) -> dict[str, object]:
    """Mean over members and seeds of the variance per epoch, and the expectation, in the pool against alone."""
    schemes = {
        "proportional": Terms(),
        "pplns": Terms("pplns", 4 * MEMBERS * TRAININGS * (LEVEL - BASELINE)),  # about four epochs of work
    }
    outcomes: dict[str, list[tuple[float, float, float]]] = {name: [] for name in schemes}
    for seed in range(seeds):
        rng = random.Random(seed)
        drawn = [draw_epoch(rng) for _ in range(epochs)]
        alone = solo_rewards(drawn)
        for name, terms in schemes.items():
            shared = pool_rewards(drawn, terms, seed)
            outcomes[name].append((
                1 - _variance(shared) / _variance(alone),
                sum(map(sum, shared)) / sum(map(sum, alone)),
                _spread(shared),
            ))  # fmt: skip
    return {
        name: {
            "variance_gone": round(statistics.median(gone for gone, _, _ in found), 4),
            "variance_gone_range": [round(min(g for g, _, _ in found), 4), round(max(g for g, _, _ in found), 4)],
            "expectation_ratio": round(statistics.mean(ratio for _, ratio, _ in found), 6),
            "members_apart": round(statistics.mean(apart for _, _, apart in found), 4),
        }
        for name, found in outcomes.items()
    }


def _spread(by_member: list[list[int]]) -> float:
    """Standard deviation of the members' sums over all epochs, as a part of their mean."""
    sums = [sum(series) for series in by_member]
    return statistics.pstdev(sums) / statistics.mean(sums)


def _variance(by_member: list[list[int]]) -> float:
    return statistics.mean(statistics.pvariance(series) for series in by_member)


class _Fast(NamespaceStorage):
    """Writes without waiting for the disk: only to build a long ledger in reasonable time."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._bulk = namespace

    def write(self, batch: Writes) -> None:
        """See `Storage`."""
        with self._bulk.batch(sync=False) as changes:
            for key, value in batch:
                if value is None:
                    changes.delete(key)
                else:
                    changes.put(key, value)


def restart(shares: int, per_epoch: int, members: int) -> dict[str, object]:
    """Processor seconds to open a pool over a ledger of `shares`, from a snapshot and by replaying all of it."""
    with tempfile.TemporaryDirectory() as folder:
        _build(folder, shares, per_epoch, members)
        replayed, state, entries = _open(folder, save=True)
        from_snapshot, again, _ = _open(folder, save=False)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "shares": shares,
        "entries": entries,
        "database_bytes": size,
        "replayed_cpu_seconds": round(replayed, 2),
        "from_snapshot_cpu_seconds": round(from_snapshot, 2),
        "same_state": state == again,
    }


def _build(folder: str, shares: int, per_epoch: int, members: int) -> None:
    rng = random.Random(7)
    keys = [PrivateKey(digest("bench-member", number.to_bytes(4, "big"))) for number in range(members)]
    database = plyvel.DB(folder, create_if_missing=True)
    pool = Pool(
        _Fast(Namespace(database, b"pool", Guard(Path(folder)))), PoolSettings(NETWORK, 1 << 20), random.Random(7)
    )
    ledger, book, space = pool.ledger, pool.book, get_space("stages-v1")
    for number in range(-(-shares // per_epoch)):
        work = make_work(number, 600.0 * number)
        ledger.append(WorkEntry(0, WorkRecord.of(work)))
        for i in range(min(per_epoch, shares - number * per_epoch)):
            genotype = space.canonical(bytes(rng.randrange(size) for size in space.gene_sizes))
            key, score = rng.choice(keys), round(rng.gauss(LEVEL, SPREAD))
            signed = SignedShare(make_share(work, i, genotype, key.public, score), rng.randbytes(64))
            entry = ShareEntry(0, signed, work.points(score))
            book.apply(ledger.append(entry), entry)
        fixed = RoundEntry(number, book.due(LIMIT), book.terms, *book.scheme.since)
        book.apply(ledger.append(fixed), fixed)
        result, lines = digest("result", number.to_bytes(8, "big")), table(fixed.credits, None, LIMIT, fixed.terms)
        paid = PaidEntry(result, number, lines, book.debits(number))
        book.apply(ledger.append(paid), paid)
    database.close()


def _open(folder: str, save: bool) -> tuple[float, bytes, int]:
    database = plyvel.DB(folder)
    started = time.process_time()
    settings = PoolSettings(NETWORK, 1 << 20)
    pool = Pool(NamespaceStorage(Namespace(database, b"pool", Guard(Path(folder)))), settings, random.Random(7))
    seconds = time.process_time() - started
    if save:
        pool.save_snapshot()
    archives = repr([(work.id, list(archive), archive.starting_points) for work, archive in pool.archives.values()])
    state = digest("state", snapshot.state_of(pool.book).encode(), archives.encode())
    database.close()
    return seconds, state, len(pool.ledger)


def figures(quick: bool = False) -> dict[str, object]:
    """All figures of this part."""
    found = rewards(2, 40) if quick else rewards(5, 300)
    opened = restart(2_000, 200, 20) if quick else restart(1_000_000, 1000, 1000)
    setting = {
        "members": MEMBERS, "outsiders": OUTSIDERS, "trainings_per_epoch": TRAININGS, "seats": SEATS,
        "published_variance_gone": 0.45,
    }  # fmt: skip
    return {"reward_variance": {**found, "setting": setting}, "restart": opened}
