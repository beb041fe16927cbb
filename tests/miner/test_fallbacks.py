"""Several pools: which one has its turn, and that every share goes to the pool that leased it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.artifact import artifact_id
from ponas_node.miner.choice import FAILURES, PoolChoice
from ponas_node.miner.member import PoolMember
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.pool.kit import key, make_settings, make_work
from tests.pool.rig import BACKOFF, DATASET, FakeExecutor, Site, running, until
from tests.pool.test_kill import free_port

A = key(1)


@given(st.integers(1, 4), st.lists(st.sampled_from(["connected", "failed", "back"]), max_size=60))
def test_every_pool_has_its_turn_and_the_first_is_preferred(count, events):
    urls = [f"http://pool{number}" for number in range(count)]
    choice, failures, place = PoolChoice([*urls, urls[0]]), 0, 0
    for event in events:
        if event == "failed":
            failures += 1
            moved = failures == FAILURES and count > 1
            assert choice.failed() == moved
            if moved:
                failures, place = 0, (place + 1) % count
        elif event == "connected":
            failures = 0
            choice.connected()
        else:
            failures = place = 0
            choice.back()
        if count == 1:
            failures = min(failures, FAILURES)
        assert (choice.url, choice.first, choice.away) == (urls[place], urls[0], place > 0)


def test_a_miner_has_a_pool():
    with pytest.raises(ValueError, match="at least one"):
        PoolChoice([])


def work():
    dataset = {"dataset": artifact_id(DATASET), "dataset_bytes": len(DATASET)}
    return make_work(1, closes=float(int(time.time()) + 3600), **dataset)


def site_at(folder, number, port=0):
    pool = Pool(MemoryStorage(), make_settings(), random.Random(number))
    site = Site(pool, folder / f"site{number}", pool_key=key(90 + number))
    site.port = port
    return site


async def test_the_second_pool_stands_in_and_the_first_is_returned_to(tmp_path, monkeypatch):
    monkeypatch.setattr("ponas_node.miner.member.RETURN_SECONDS", 0.3)
    first, second = site_at(tmp_path, 0, free_port()), site_at(tmp_path, 1)
    await second.start(work())
    member = PoolMember(first.url, A, tmp_path / "m", FakeExecutor(), backoff=BACKOFF, fallbacks=[second.url])
    async with running(member):
        await until(lambda: second.pool.member(A.address) and second.pool.member(A.address).shares >= 3)
        await first.start(work())
        await until(lambda: first.pool.member(A.address) and first.pool.member(A.address).shares >= 3)
        settled = second.pool.member(A.address).shares
        assert member.state.url == first.url
        await first.stop()
        await until(lambda: second.pool.member(A.address).shares >= settled + 3)
    for site in (first, second):
        view = site.pool.member(A.address)
        assert not view.rejections
        assert view.shares == len(site.pool.archive)
    # Both search the same work on their own: what one leased is not what the other was given a share of.
    assert not member.state.rejected
    await second.stop()


async def test_a_share_waits_for_the_pool_that_leased_it(tmp_path):
    first, second = site_at(tmp_path, 0), site_at(tmp_path, 1)

    async def never(work, genotype, model):
        await asyncio.sleep(3600)

    first._evaluate = never
    await first.start(work())
    await second.start(work())
    member = PoolMember(first.url, A, tmp_path / "m", FakeExecutor(), backoff=BACKOFF, fallbacks=[second.url])
    async with running(member):
        await until(lambda: len(member._delivery.box(first.key.address)) >= 1)
        waiting = {upload.signed.share.id for upload in member._delivery.box(first.key.address)._waiting.values()}
        await first.stop()
        await until(lambda: member.state.accepted >= 3)
        assert waiting <= set(member._delivery.box(first.key.address)._waiting)
    assert not second.pool.member(A.address).rejections
    first._evaluate = first._score
    await first.start(first.pool.work)
    again = PoolMember(first.url, A, tmp_path / "m", FakeExecutor(3600), backoff=BACKOFF)
    async with running(again):
        await until(lambda: first.pool.member(A.address).shares >= len(waiting))
        await until(lambda: not len(again._delivery.box(first.key.address)))
    await first.stop()
    await second.stop()


async def test_workers_under_one_key_do_not_collide(tmp_path):
    site = site_at(tmp_path, 0)
    await site.start(work())
    executors = [FakeExecutor(slots=3) for _ in range(3)]
    members = [
        PoolMember(site.url, A, tmp_path / str(i), executor, backoff=BACKOFF) for i, executor in enumerate(executors)
    ]
    async with running(*members):
        await until(lambda: all(member.state.accepted >= 5 for member in members))
    trained = [genotype for executor in executors for genotype in executor.trained]
    assert len(trained) == len(set(trained))
    assert not site.pool.member(A.address).rejections
    assert site.pool.member(A.address).shares >= sum(member.state.accepted for member in members)
    await site.stop()
