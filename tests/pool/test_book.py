from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.split import split
from pool.errors import PoolFault
from pool.payouts import FINDER_PARTS, table
from pool.records import Credit, Terms
from pool.storage import MemoryStorage
from pool.work import Candidate
from tests.pool.kit import NOW, key, make_pool, make_work, submit

MEMBERS = [key(number).address for number in range(6)]
credits = st.lists(st.integers(1, 2**40), min_size=1, max_size=6).map(
    lambda points: tuple(Credit(address, count) for address, count in zip(MEMBERS, points, strict=False))
)


@given(credits, st.integers(0, 5), st.integers(0, 10**9))
def test_a_table_pays_seven_eighths_by_points_and_one_to_the_finder(lines, finder, reward):
    found = table(lines, MEMBERS[finder], len(lines) + 1, Terms())
    total, points = sum(line.weight for line in found), sum(line.points for line in lines)
    by_address = {line.address: line.weight for line in found}
    for address in MEMBERS:
        base = sum((Fraction(line.points, points) for line in lines if line.address == address), Fraction(0))
        part = base * (FINDER_PARTS - 1) / FINDER_PARTS + (
            Fraction(1, FINDER_PARTS) if address == MEMBERS[finder] else 0
        )
        exact = points * FINDER_PARTS < 2**32
        assert abs(Fraction(by_address.get(address, 0), total) - part) <= (0 if exact else Fraction(1, 2**30))
    assert sum(split(reward, [line.weight for line in found])) == reward
    assert all(1 <= line.weight < 2**32 for line in found)


def test_tables_of_nobody_and_of_the_finder_alone():
    assert table((), None, 5, Terms()) == ()
    assert [(line.address, line.weight) for line in table((), MEMBERS[0], 5, Terms())] == [(MEMBERS[0], 1)]
    one = (Credit(MEMBERS[0], 10),)
    assert [line.address for line in table(one, MEMBERS[1], 1, Terms())] == [MEMBERS[0]]


def pool_of(scores):
    pool = make_pool(work=make_work())
    for number, score in enumerate(scores):
        lease = pool.lease(MEMBERS[number], b"w", NOW)
        submit(pool, lease, lease.genotypes[0], key(number), 40 + score)
    return pool


def test_what_does_not_fit_is_carried_into_the_next_table():
    pool = pool_of([300, 200, 100, 50])
    best = pool.candidates(1)[0]
    first = pool.payouts_for(best, 3)
    assert [line.address for line in first] == MEMBERS[:2]
    assert pool.payouts(9) and [line.address for line in pool.payouts(9)] == MEMBERS[2:4]
    pool.table_paid(b"r" * 32, 1, first)
    pool.set_work(make_work(2), NOW)
    lease = pool.lease(MEMBERS[0], b"w", NOW)
    submit(pool, lease, lease.genotypes[0], key(0), 50)
    second = pool.payouts_for(pool.candidates(1)[0], 3)
    weights = {line.address: line.weight for line in second}
    assert weights == {MEMBERS[2]: 700, MEMBERS[3]: 350, MEMBERS[0]: 150}
    assert pool.member(MEMBERS[0]).payments[0].points == 300


def test_a_round_that_nothing_won_is_carried_over_whole():
    pool = pool_of([300, 200])
    table_ = pool.payouts_for(pool.candidates(1)[0], 5)
    assert pool.summary().reserved == 500
    pool.round_void(1)
    pool.round_void(1)
    assert (pool.summary().reserved, pool.summary().carried) == (0, 500)
    pool.set_work(make_work(2), NOW)
    lease = pool.lease(MEMBERS[1], b"w", NOW)
    submit(pool, lease, lease.genotypes[0], key(1), 41)
    again = {line.address for line in pool.payouts_for(pool.candidates(1)[0], 5)}
    assert again == {line.address for line in table_}


def test_two_seated_results_of_one_epoch_settle_its_points_once():
    pool = pool_of([300, 200])
    first, second = pool.candidates(2)
    for number, candidate in enumerate((first, second)):
        pool.table_paid(bytes([number]) * 32, 1, pool.payouts_for(candidate, 5))
    assert pool.summary().paid == 500
    assert pool.summary().carried == 0
    assert [payment.points for payment in pool.member(MEMBERS[0]).payments] == [0, 300]


def test_no_table_for_a_result_that_is_not_the_pools():
    pool = make_pool(MemoryStorage(), make_work())
    with pytest.raises(PoolFault):
        pool.payouts_for(Candidate(bytes(15), (), b"", 0, 1, 1, MEMBERS[0]), 5)
