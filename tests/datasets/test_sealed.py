"""Sealed test splits: what goes in comes out, and nothing else does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.datasets import BadDataset, Dataset, Split, cut_test, digits, seal_split, with_sealed_test
from consensus.spaces.base import InputShape
from consensus.tasks import sealed_bytes
from tests.network.cluster import small_task

KEY = bytes(range(32))


def dataset(dice: np.random.Generator, kind: type, count: int) -> Dataset:
    def split(n: int) -> Split:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        samples = dice.integers(low, high, (n, 2, 3, 1), kind, endpoint=True)
        return Split(samples, dice.integers(0, 5, n, np.uint16))

    return Dataset("drawn", InputShape(2, 3, 1, 5), split(2), split(2), split(count))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from([np.uint8, np.int8]), count=st.integers(1, 40))
def test_a_split_comes_back_as_it_was(seed: int, kind: type, count: int) -> None:
    dice = np.random.default_rng(seed)
    public, secret = dataset(dice, kind, count), dataset(dice, kind, count).test
    sealed = seal_split(secret, KEY)
    opened = with_sealed_test(public, sealed, KEY)
    assert np.array_equal(opened.test.samples, secret.samples) and opened.test.samples.dtype == kind
    assert np.array_equal(opened.test.labels, secret.labels)
    assert opened.train is public.train and opened.validation is public.validation
    spec = dataclasses.replace(small_task(), height=2, width=3, channels=1, classes=5, test_samples=count)
    assert len(sealed) == sealed_bytes(spec)
    place = int(dice.integers(len(sealed)))
    broken = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
    for wrong, key in ((broken, KEY), (sealed[:-1], KEY), (sealed, bytes(32)), (b"", KEY)):
        with pytest.raises(BadDataset, match="does not open"):
            with_sealed_test(public, wrong, key)


def test_what_the_key_opens_must_fit_the_data_set() -> None:
    dice = np.random.default_rng(1)
    public, secret = dataset(dice, np.uint8, 10), dataset(dice, np.uint8, 10).test
    for rows in (9, 8):
        short = Split(secret.samples[:rows], secret.labels[:rows])
        with pytest.raises(BadDataset, match="10 samples"):
            with_sealed_test(public, seal_split(short, KEY), KEY)
    labels = secret.labels.copy()
    labels[3] = 5
    with pytest.raises(BadDataset, match="label"):
        with_sealed_test(public, seal_split(Split(secret.samples, labels), KEY), KEY)


def test_parts_of_the_test_split_are_equal_and_apart() -> None:
    whole = digits()
    public, parts = cut_test(whole, 4)
    every = [public.test, *parts]
    assert {len(part) for part in every} == {len(whole.test) // 5}
    seen = [sample.tobytes() for part in every for sample in part.samples]
    original = [sample.tobytes() for sample in whole.test.samples]
    assert sorted(seen) == sorted(original[: len(seen)]) and public.train is whole.train
    for label in range(10):  # each part has a like mixture
        assert all(np.sum(part.labels == label) > 0 for part in every)
    for count in (0, len(whole.test)):
        with pytest.raises(BadDataset, match="cannot be cut"):
            cut_test(whole, count)
