"""A pool under random events and restarts. Everything that must hold at any time is an invariant here."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pool.errors import NoLease, ShareRefused
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.pool.kit import NOW, SAMPLES, key, make_pool, make_share, make_work

MEMBERS = [key(number) for number in range(4)]
LIMIT = 3


def restarted(storage: MemoryStorage) -> Pool:
    return make_pool(storage, silence_seconds=20, lease_seconds=50, snapshot_entries=7)


def snapshot(pool: Pool) -> object:
    """All that a restart must bring back."""
    held = {
        number: (dataclasses.astuple(held.lease), frozenset(held.open), held.expired)
        for number, held in pool.leases.held.items()
    }
    archives = [(work, list(archive), archive.starting_points) for work, archive in pool.archives.values()]
    book = pool.book
    points = [
        {address: count for address, count in counter.items() if count}
        for counter in (book.earned, book.paid, book.shares, book.reserved())
    ]
    views = [pool.member(member.address) for member in MEMBERS]
    rejections = [view.rejections if view is not None else () for view in views]
    tables = pool.payouts(LIMIT), book.open_rounds, book.results
    return pool.work, archives, held, points, tables, rejections


class World:
    """A pool, its members and its chain, driven by one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.storage = MemoryStorage()
        self.pool = restarted(self.storage)
        self.now, self.epoch = NOW, 1
        self.granted: list[tuple[int, object, object]] = []
        self.tables: dict[int, dict[bytes, object]] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.paid: dict[int, int] = {}
        self.results = 0
        self.codes: Counter[str] = Counter()
        self.pool.set_work(self.work(), self.now)

    def step(self) -> None:
        steps = {
            self.lease: 12, self.share: 24, self.time_passes: 2, self.progress: 2, self.release: 1,
            self.kill_and_restart: 1, self.next_epoch: 1, self.reveal: 2, self.result_is_seated: 1, self.nothing_won: 1,
        }  # fmt: skip
        self.rng.choices(list(steps), list(steps.values()))[0]()
        self.leases_are_disjoint_and_useful()
        self.nothing_is_lost_or_paid_twice()

    def granted_one(self):
        recent = self.granted[-12:]
        return self.rng.choice(recent) if recent else None

    def work(self):
        return make_work(self.epoch, closes=NOW + 1_000_000.25)

    def lease(self):
        number = self.rng.randrange(len(MEMBERS))
        try:
            lease = self.pool.lease(MEMBERS[number].address, b"w", self.now)
        except NoLease:
            return
        self.granted.append((number, lease, self.pool.work))

    def share(self):
        if not self.granted:
            return
        number, lease, work = self.granted_one()
        score, lie, thief = self.rng.randint(0, SAMPLES), self.rng.random() < 0.2, self.rng.random() < 0.1
        member = MEMBERS[(number + thief) % len(MEMBERS)]
        genotype = self.rng.choice(lease.genotypes)
        signed, model = make_share(work, lease, genotype, member, score)
        before = self.storage.copy()
        try:
            known = self.pool.check_share(member.public, signed, model, self.now)
            accepted = known or self.pool.accept_share(signed, (score + lie) % (SAMPLES + 1), self.now)
        except ShareRefused as refused:
            earned = self.pool.member(member.address).earned
            old = restarted(before).member(member.address)
            assert earned == (old.earned if old is not None else 0)
            self.codes[refused.code] += 1
            return
        assert not thief or known is not None
        self.acknowledged.setdefault(signed.share.leaves[-1] + bytes([work.epoch]), accepted.points)

    def time_passes(self):
        self.now += self.rng.choice([1, 10, 21, 60])
        self.pool.tick(self.now)

    def progress(self):
        if self.granted:
            number, lease, _ = self.granted_one()
            self.pool.progress(MEMBERS[number].address, b"w", lease.id, self.rng.randint(1, 40), self.now)

    def release(self):
        if self.granted:
            number, lease, _ = self.granted_one()
            self.pool.release(MEMBERS[number].address, lease.id, lease.genotypes[0])

    def kill_and_restart(self):
        before = snapshot(self.pool)
        self.storage = self.storage.copy()
        self.pool = restarted(self.storage)
        assert snapshot(self.pool) == before
        self.pool.set_work(self.work(), self.now)
        assert snapshot(self.pool) == before

    def next_epoch(self):
        self.epoch += 1
        self.pool.set_work(self.work(), self.now)

    def reveal(self):
        found = self.pool.candidates(5)
        if not found:
            return
        candidate = self.rng.choice(found)
        table = self.pool.payouts_for(candidate, LIMIT)
        assert 1 <= len(table) <= LIMIT
        assert len({line.address for line in table}) == len(table)
        assert all(1 <= line.weight < 2**32 for line in table)
        known = self.tables.setdefault(self.epoch, {})
        assert known.setdefault(candidate.genotype, table) == table
        credits = {credit.address: credit.points for credit in self.pool.book.rounds[self.epoch].credits}
        total = sum(line.weight for line in table)
        for line in table:
            base = credits.get(line.address, 0) * 7
            extra = sum(credits.values()) if line.address == candidate.finder else 0
            if credits:
                assert line.weight * 8 * sum(credits.values()) == (base + extra) * total

    def result_is_seated(self):
        if not self.tables:
            return
        epoch = self.rng.choice(sorted(self.tables))
        table = next(iter(self.tables[epoch].values()))
        before = sum(self.pool.book.paid.values())
        self.results += 1
        result = self.results.to_bytes(32, "big")
        for _ in range(2):
            self.pool.table_paid(result, epoch, table)
        grown = sum(self.pool.book.paid.values()) - before
        reserved = sum(credit.points for credit in self.pool.book.rounds[epoch].credits)
        assert grown == (0 if epoch in self.paid else reserved)
        self.paid.setdefault(epoch, reserved)

    def nothing_won(self):
        over = [epoch for epoch in sorted(self.tables) if epoch < self.epoch]
        if not over:
            return
        epoch = self.rng.choice(over)
        if epoch not in self.paid:  # the node decides a round once, when its epoch is over: paid or void
            self.pool.round_void(epoch)
            del self.tables[epoch]

    def leases_are_disjoint_and_useful(self):
        seen: set[bytes] = set()
        for held in self.pool.leases.live():
            assert not held.open & seen
            seen |= held.open
            assert not any(genotype in self.pool.archive for genotype in held.open)
            assert all(genotype.startswith(held.lease.prefix) for genotype in held.lease.genotypes)
        waiting = [genotype for returned in self.pool.leases.queue for genotype in returned.genotypes]
        assert len(waiting) == len(set(waiting))
        assert not seen & set(waiting)
        assert not any(genotype in self.pool.archive for genotype in waiting)

    def nothing_is_lost_or_paid_twice(self):
        book = self.pool.book
        assert sum(book.earned.values()) == sum(self.acknowledged.values())
        assert sum(book.paid.values()) == sum(self.paid.values())
        reserved = book.reserved()
        for member in MEMBERS:
            assert book.earned[member.address] == book.paid[member.address] + book.carried(member.address)
            assert 0 <= reserved[member.address] <= book.carried(member.address)
        assert sum(book.shares.values()) == len(self.acknowledged)


@settings(max_examples=25, deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
@example(1529112)  # reveals of an epoch that was declared void while it lasted, which the node never does
def test_whatever_happens(seed):
    world = World(seed)
    for _ in range(120):
        world.step()


def test_a_long_life():
    print("seed 2026")
    world = World(2026)
    for _ in range(900):
        world.step()
    print(world.codes, world.pool.summary())
    assert len(world.acknowledged) > 80
    assert sum(world.paid.values()) > 800
    assert set(world.codes) >= {"stale_work", "duplicate", "not_your_lease", "wrong_score"}
