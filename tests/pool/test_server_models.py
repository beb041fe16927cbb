"""Which models a pool keeps: those of results that can still compete."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pool.server import BestScores
from tests.pool.kit import make_work


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5))
def test_a_model_is_kept_if_its_score_is_among_the_best_so_far(scores, most):
    best, work = BestScores(most), make_work()
    for number, score in enumerate(scores):
        better = sum(earlier > score for earlier in scores[:number])
        assert best.admits(work, score) == (better < most)


def test_of_many_random_scores_few_are_kept_and_a_new_work_begins_anew():
    rng, best, work = random.Random(3), BestScores(10), make_work()
    kept = sum(best.admits(work, rng.randrange(1 << 20)) for _ in range(5000))
    assert 10 < kept < 200
    assert best.admits(make_work(2), 0)
