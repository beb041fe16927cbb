"""Randomness from SHA-256: uniform, pure, and the same everywhere."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import draw_samples
from consensus.exact.streams import batch_indices, permutation, stream, uniform16


def test_stream_is_sha256_in_counter_mode():
    prefix = b"ponas/stream" + bytes([5]) + b"label" + b"seed"
    blocks = [hashlib.sha256(prefix + counter.to_bytes(8, "big")).digest() for counter in range(3)]
    assert stream(b"seed", b"label", 70) == b"".join(blocks)[:70]
    assert stream(b"seed", b"labels", 32) != stream(b"sseed", b"label", 32)


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=40), st.integers(0, 300), st.integers(0, 400))
def test_samples_are_sorted_distinct_and_in_range(seed, total, count):
    drawn = draw_samples(seed, total, count)
    assert drawn.dtype == np.int64
    assert len(drawn) == min(total, count) == len(set(drawn.tolist()))
    assert np.array_equal(drawn, np.sort(drawn))
    assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < total)
    assert np.array_equal(drawn, draw_samples(seed, total, count))


def test_every_subset_is_drawn_about_equally_often():
    draws = Counter(tuple(draw_samples(b"%d" % seed, 5, 2).tolist()) for seed in range(4000))
    assert len(draws) == 10
    # 400 expected each, standard deviation 19
    assert all(320 < count < 480 for count in draws.values())


def test_negative_counts_are_refused():
    for total, count in ((-1, 2), (3, -1)):
        with pytest.raises(ValueError, match="negative"):
            draw_samples(b"", total, count)


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=40), st.integers(1, 50), st.integers(1, 70), st.integers(0, 20))
def test_batches_pass_over_all_samples_before_any_comes_again(seed, total, batch, step):
    order = np.concatenate([batch_indices(seed, total, batch, index) for index in range(step + 1)])
    for epoch in range(len(order) // total):
        assert sorted(order[epoch * total : (epoch + 1) * total]) == list(range(total))
        assert np.array_equal(order[epoch * total : (epoch + 1) * total], permutation(seed, epoch, total))


@settings(deadline=None, print_blob=True)
@given(st.integers(1, 1 << 15))
def test_uniform_numbers_reach_both_ends_and_no_further(limit):
    values = uniform16(b"seed", b"x", 20_000, limit)
    assert values.min() >= -limit and values.max() <= limit
    assert abs(values.mean()) < limit * 0.03
    assert values.max() > limit * 0.99 - 1 and values.min() < -limit * 0.99 + 1


def test_golden_draws():
    assert draw_samples(b"beacon", 1000, 8).tolist() == [84, 264, 267, 380, 423, 509, 523, 839]
    assert permutation(b"seed", 3, 8).tolist() == [5, 4, 7, 1, 2, 0, 3, 6]
    assert uniform16(b"seed", b"weights", 4, 1000).tolist() == [387, 588, 504, 976]
