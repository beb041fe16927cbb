"""Seats follow compute. The measure itself is `python -m bench consensus --json`; here a small sample of it."""

import pytest

from bench.simulation import fairness
from bench.simulation.fairness import PARTS, shares, slope


def test_slope_is_that_of_the_line():
    assert slope([(0.1, 0.2), (0.2, 0.4), (0.4, 0.8)]) == pytest.approx(2)
    assert slope([(0.0, 0.1), (1.0, 0.1)]) == 0


def test_parts_are_the_same_split_and_joined():
    for parts, groups in (fairness._split(PARTS, 10), fairness._joined(PARTS)):
        assert [sum(parts[place] for place in group) for group in groups] == list(PARTS)
        assert sorted(place for group in groups for place in group) == list(range(len(parts)))


def test_seats_follow_compute():
    """30 epochs, 240 seats: the largest miner's part is known to about 3 points."""
    found = shares(PARTS, [[place] for place in range(len(PARTS))], epochs=30, seed=3)
    assert sum(seats for _, seats in found) == pytest.approx(1)
    assert 0.75 <= slope(found) <= 1.25


@pytest.mark.long
def test_seats_follow_compute_closely_split_or_not():
    found = fairness.figures(epochs=300)
    print(found)
    for name in ("slope", "slope_split", "slope_joined"):
        assert 0.9 <= found[name] <= 1.1
