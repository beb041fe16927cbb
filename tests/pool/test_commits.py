"""Group commit: nothing is acknowledged before it is stored, whatever the storage does."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.commits import GroupCommit
from pool.errors import ShareRefused, Unavailable
from pool.pool import Pool
from pool.storage import GroupStorage, MemoryStorage
from tests.pool.kit import NOW, key, make_pool, make_settings, make_share, make_work, submit


class Disk(MemoryStorage):
    """Counts its writes, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.full = False

    def write(self, batch):
        if self.full:
            raise OSError("no space left on device")
        self.writes += 1
        super().write(batch)


WORK = make_work()
KEYS = st.sampled_from([bytes([letter, number]) for letter in b"ab" for number in range(3)])
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=2)), max_size=3)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.lists(WRITES, max_size=3)), max_size=8))
def test_a_group_storage_reads_like_a_plain_one_and_stores_all_or_nothing(groups):
    disk, plain = Disk(), MemoryStorage()
    grouped = GroupStorage(disk)
    stored = plain.copy()
    for together, full, batches in groups:
        disk.full = full
        before = disk.writes
        try:
            if together:
                with grouped.group():
                    for batch in batches:
                        grouped.write(batch)
                        plain.write(batch)
                        assert [*grouped.iterate(b"a")] == [*plain.iterate(b"a")]
                assert disk.writes <= before + 1
            else:
                for batch in batches:
                    grouped.write(batch)
                    plain.write(batch)
            if disk.writes > before:
                stored = plain.copy()
        except OSError:
            assert disk.full
        for name in (b"a", b"b"):
            assert [*grouped.iterate(name)] == [*plain.iterate(name)]
            assert [*disk.iterate(name)] == [*stored.iterate(name)]
        for number in range(3):
            assert grouped.get(bytes([97, number])) == plain.get(bytes([97, number]))


async def test_changes_that_wait_share_a_sync_and_keep_their_order(monkeypatch):
    monkeypatch.setattr("pool.commits.SECONDS", 60.0)
    disk = Disk()
    pool = make_pool(disk, WORK)
    commits, members = GroupCommit(pool), [key(number) for number in range(10)]
    before = disk.writes
    leases = await asyncio.gather(*(commits.run(lambda m=m: pool.lease(m.address, b"w", NOW)) for m in members))
    assert disk.writes == before + 1
    assert [lease.id for lease in leases] == sorted(lease.id for lease in leases)
    accepted = await asyncio.gather(
        *(
            commits.run(lambda m=m, lease=lease: submit(pool, lease, lease.genotypes[0], m, 200))
            for m, lease in zip(members, leases, strict=True)
        )
    )
    assert disk.writes == before + 2
    again = make_pool(disk.copy())
    assert all(again.member(member.address).shares == 1 for member in members)
    assert {a.points for a in accepted} == {WORK.points(200)}


async def test_one_that_fails_does_not_take_the_others_with_it():
    pool = make_pool(Disk(), WORK)
    commits = GroupCommit(pool)
    lease = pool.lease(key(1).address, b"w", NOW)
    bad, model = make_share(WORK, lease, lease.genotypes[0], key(1), 200, lease=99)
    outcomes = await asyncio.gather(
        commits.run(lambda: pool.check_share(key(1).public, bad, model, NOW)),
        commits.run(lambda: submit(pool, lease, lease.genotypes[1], key(1), 200)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], ShareRefused) and outcomes[0].code == "unknown_lease"
    assert outcomes[1].points == WORK.points(200)


async def test_a_full_disk_acknowledges_nothing_and_loses_nothing():
    disk = Disk()
    pool = make_pool(disk, WORK)
    commits, member = GroupCommit(pool), key(1)
    lease = pool.lease(member.address, b"w", NOW)

    def send():
        return submit(pool, lease, lease.genotypes[0], member, 200)

    disk.full = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="no space left"):
            await commits.run(send)
    assert make_pool(disk.copy()).summary().shares == 0
    disk.full = False
    assert (await commits.run(send)).points == WORK.points(200)  # known by now, and stored with this answer
    again = make_pool(disk.copy())
    assert again.member(member.address).shares == 1 == pool.member(member.address).shares


async def test_urgent_changes_go_first_and_groups_end_in_time(monkeypatch):
    monkeypatch.setattr("pool.commits.SECONDS", 0.02)
    disk, made = Disk(), []
    pool = make_pool(disk, WORK)
    commits, before = GroupCommit(pool), disk.writes

    def change(name):
        time.sleep(0.015)
        pool.write([(b"x" + name.encode(), b"")])
        made.append(name)

    names = ["share 1", "share 2", "lease 1", "share 3", "lease 2"]
    await asyncio.gather(*(commits.run(lambda n=n: change(n), urgent=n.startswith("lease")) for n in names))
    assert made == ["lease 1", "share 1", "lease 2", "share 2", "share 3"]  # of each kind at least one in a group
    assert disk.writes == before + 3


async def test_a_caller_that_left_is_no_trouble(monkeypatch):
    monkeypatch.setattr("pool.commits.SECONDS", 60.0)
    disk = Disk()
    pool = Pool(disk, make_settings(), random.Random(1))
    pool.set_work(WORK, NOW)
    commits, before = GroupCommit(pool), disk.writes
    tasks = [
        asyncio.create_task(commits.run(lambda i=i: pool.lease(key(1).address, b"%d" % i, NOW))) for i in range(100)
    ]
    tasks += [asyncio.create_task(commits.run(lambda: pool.join(key(2).public, b"w", NOW))) for _ in range(3)]
    gone = asyncio.create_task(commits.run(lambda: pool.lease(key(3).address, b"w", NOW)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*tasks)
    assert disk.writes == before + 1
    assert pool.leases.count(key(3).address) == 0
