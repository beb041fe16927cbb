"""Data sets: canonical bytes, hostile bytes, and the built-in digits."""

import hashlib
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.datasets import BUILTIN, HEADER, BadDataset, Dataset, Split, decode_dataset, digits, encode_dataset
from consensus.spaces import InputShape
from tests.exact.helpers import random_dataset, random_shape

LIMIT = 1 << 20


@settings(deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
def test_round_trip(seed):
    rng = random.Random(seed)
    dataset = random_dataset(rng, random_shape(rng))
    data = encode_dataset(dataset)
    back = decode_dataset(data, len(data))
    assert encode_dataset(back) == data
    assert (back.name, back.shape) == (dataset.name, dataset.shape)
    for one, two in zip(back.splits, dataset.splits, strict=True):
        assert one.samples.dtype == two.samples.dtype and one.labels.dtype == np.uint16
        assert np.array_equal(one.samples, two.samples) and np.array_equal(one.labels, two.labels)


def small() -> bytes:
    rng = random.Random(1)
    return encode_dataset(random_dataset(rng, InputShape(4, 3, 1, 2), (3, 2, 2)))


@settings(deadline=None, print_blob=True)
@given(st.data())
def test_every_truncation_and_extension_is_refused(data):
    whole = small()
    cut = data.draw(st.integers(0, len(whole) - 1))
    for bad in (whole[:cut], whole + b"\0", whole + whole):
        with pytest.raises(BadDataset):
            decode_dataset(bad, LIMIT)


@settings(deadline=None, print_blob=True)
@given(st.integers(0, HEADER.size + 8), st.integers(0, 255))
def test_a_changed_header_is_refused_or_is_another_data_set(position, value):
    data = bytearray(small())
    data[position] = value
    try:
        dataset = decode_dataset(bytes(data), LIMIT)
    except BadDataset as error:
        assert str(error).endswith(".")
    else:
        assert encode_dataset(dataset) == bytes(data)


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=200))
def test_noise_is_refused(data):
    with pytest.raises(BadDataset):
        decode_dataset(data, LIMIT)


def test_a_header_that_promises_much_takes_no_memory():
    header = HEADER.pack(b"PND1", 0, 1024, 1024, 1024, 10, 2**32 - 1, 2**32 - 1, 2**32 - 1, 1)
    with pytest.raises(BadDataset, match="size that its header states"):
        decode_dataset(header + b"x", LIMIT)


def test_limits():
    data = small()
    with pytest.raises(BadDataset, match="at most"):
        decode_dataset(data, len(data) - 1)
    name = data[HEADER.size : HEADER.size + data[HEADER.size - 1]]
    label_at = HEADER.size + len(name) + 3 * 12
    bad = data[:label_at] + struct.pack("<H", 2) + data[label_at + 2 :]
    with pytest.raises(BadDataset, match="label"):
        decode_dataset(bad, LIMIT)


def test_arrays_that_do_not_fit_are_refused():
    good = digits()
    with pytest.raises(BadDataset, match="classes"):
        Dataset("x", InputShape(8, 8, 1, 1), *good.splits)
    with pytest.raises(BadDataset, match="shape"):
        Dataset("x", InputShape(8, 7, 1, 10), *good.splits)
    with pytest.raises(BadDataset, match="number of classes"):
        Dataset("x", InputShape(8, 8, 1, 9), *good.splits)
    with pytest.raises(BadDataset, match="uint8 or int8"):
        Dataset("x", good.shape, Split(good.train.samples.astype(np.float32), good.train.labels), *good.splits[1:])
    with pytest.raises(BadDataset, match="at least one"):
        Dataset("x", good.shape, Split(good.train.samples[:0], good.train.labels[:0]), *good.splits[1:])
    with pytest.raises(BadDataset, match="name"):
        Dataset("two words", good.shape, *good.splits)


def test_digits_are_the_same_everywhere_and_split_by_content():
    dataset = BUILTIN["digits"]()
    assert [len(split) for split in dataset.splits] == [1085, 340, 372]
    digest = hashlib.sha256(encode_dataset(dataset)).hexdigest()
    assert digest == "d0e4607e001a94e40be66970ee1825f1794edc1d7c11746854984d55ac1d4bb8"
    seen = [{sample.tobytes() for sample in split.samples} for split in dataset.splits]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    for sample in dataset.test.samples:
        assert hashlib.sha256(sample.tobytes()).digest()[0] * 10 // 256 >= 8
