from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.speed import LEAST_HOLDERS, Rate, Speeds, behind

positive = st.floats(0.01, 100)


@given(positive, st.lists(st.floats(0.1, 50), min_size=1, max_size=20))
def test_a_steady_speed_is_measured_whatever_the_intervals(speed, intervals):
    rate = Rate(60)
    assert rate.mean() is None
    for seconds in intervals:
        rate.add(speed * seconds, seconds)
    assert rate.mean() == pytest.approx(speed)
    assert rate.mean(60) < 0.64 * speed


@given(st.lists(positive, min_size=0, max_size=30), positive)
def test_who_is_behind_does_less_than_half_of_what_is_usual(performances, z):
    found = behind(dict(enumerate(performances)), z)
    for number in found:
        assert performances[number] < math.exp(sum(map(math.log, performances)) / len(performances)) / 1.999999
    if len(performances) < LEAST_HOLDERS:
        assert not found


def test_a_fifth_of_the_members_at_a_fifth_of_their_speed_is_behind():
    performances = dict.fromkeys(range(20), 1.0) | dict.fromkeys(range(4), 0.2)
    assert behind(performances, 1.5) == [0, 1, 2, 3]
    assert behind(dict.fromkeys(range(20), 1.0) | {0: 0.6}, 1.5) == []


def test_a_crawling_worker_counts_as_a_tenth_of_the_typical():
    speeds = Speeds()
    for number in range(5):
        speeds.add((b"m", bytes([number])), 1000.0, 1.0, 60)
    speeds.add((b"m", b"slow"), 1.0, 1.0, 60)
    assert speeds.of((b"m", b"slow")) == pytest.approx(100)
    speeds.forget((b"m", b"slow"))
    assert speeds.of((b"m", b"slow")) is None
