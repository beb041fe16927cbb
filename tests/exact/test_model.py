"""Models and states from strangers: canonical bytes in, or a typed error."""

import dataclasses
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.artifact import artifact_id
from consensus.exact import (
    BadModel,
    BadState,
    Model,
    State,
    content_id,
    decode_model,
    decode_state,
    initial_state,
    quantise,
)
from consensus.exact.model import HEADER, Layer, channel_scales, fold, model_bytes
from consensus.exact.recipe import MASTER_LIMIT, MAX_SHIFT, MOMENTUM_LIMIT, RUNNING_LIMIT
from consensus.exact.state import initial_range, state_bytes
from consensus.spaces import Graph, InputShape
from consensus.spaces.graph import EXACT, Node
from tests.exact.helpers import random_graph

GRAPH = random_graph(random.Random(1), InputShape(6, 6, 1, 3))
STATE = initial_state(GRAPH, b"seed")
MODEL = quantise(STATE, GRAPH).encode()


def test_round_trips():
    model = decode_model(MODEL, GRAPH)
    assert model.encode() == MODEL and len(MODEL) == model_bytes(GRAPH)
    assert all(np.abs(layer.weights.astype(int)).max() <= 127 for layer in model.layers)
    data = STATE.encode()
    assert decode_state(data, GRAPH).encode() == data and len(data) == state_bytes(GRAPH)


@settings(deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
def test_content_ids_are_artifact_ids(seed):
    data = random.Random(seed).randbytes(seed % 200_000)
    assert content_id(data) == artifact_id(data) and len(content_id(data)) == 32


@settings(deadline=None, print_blob=True)
@given(st.data())
def test_every_truncation_and_extension_is_refused(data):
    for whole, decode, error in ((MODEL, decode_model, BadModel), (STATE.encode(), decode_state, BadState)):
        cut = data.draw(st.integers(0, len(whole) - 1))
        for bad in (whole[:cut], whole + b"\0"):
            with pytest.raises(error, match="bytes, not"):
                decode(bad, GRAPH)


@settings(deadline=None, print_blob=True)
@given(st.integers(0, len(MODEL) - 1), st.integers(0, 255))
def test_a_changed_model_is_refused_or_canonical(position, value):
    data = bytearray(MODEL)
    data[position] = value
    try:
        model = decode_model(bytes(data), GRAPH)
    except BadModel:
        assert bytes(data) != MODEL
    else:
        assert position >= HEADER.size - 1 or bytes(data) == MODEL  # the header ends with the exponent
        assert model.encode() == bytes(data)


def test_minus_128_is_no_weight():
    data = MODEL[:-1] + b"\x80"
    with pytest.raises(BadModel, match="-128"):
        decode_model(data, GRAPH)
    decode_model(MODEL[:-1] + b"\x81", GRAPH)


@pytest.mark.parametrize("exponent", [-65, 64, -128, 127])
def test_exponents_have_limits(exponent):
    with pytest.raises(BadModel, match="exponent"):
        decode_model(dataclasses.replace(quantise(STATE, GRAPH), exponent=exponent).encode(), GRAPH)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [("shifts", MAX_SHIFT + 1, "shift"), ("shifts", 255, "shift"), ("biases", EXACT, "exact range"),
     ("biases", -EXACT, "exact range"), ("biases", -(2**31), "exact range")],
)  # fmt: skip
def test_biases_and_shifts_have_limits(field, value, match):
    model = quantise(STATE, GRAPH)
    changed = getattr(model.layers[0], field).copy()
    changed[-1] = value
    layers = (model.layers[0]._replace(**{field: changed}), *model.layers[1:])
    with pytest.raises(BadModel, match=match):
        decode_model(dataclasses.replace(model, layers=layers).encode(), GRAPH)


@settings(deadline=None, print_blob=True)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8]), st.integers(0, 10))
def test_folding_changes_little(seed, target, shift):
    """Within a half for the rounding of sums, one for the result, and half a unit of every weight."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 40))
    weights, inputs = rng.integers(-127, 128, (rows, 6)).astype(np.int8), rng.integers(0, 128, (50, rows))
    sums = inputs @ weights.astype(np.int64) / 2**shift
    mean, part = sums.mean(axis=0), np.maximum(sums - sums.mean(axis=0), 0).mean(axis=0)
    scales = channel_scales((part * 256).astype(np.int64), target)
    layer = fold(weights, np.rint(mean * 256).astype(np.int64), scales, shift, 127)
    before = (sums - mean) * scales / 2**24
    after = (inputs @ layer.weights.astype(np.int64) + layer.biases) / 2.0**layer.shifts
    unit = inputs.sum(axis=1).max() / 2.0**layer.shifts
    loose = (np.abs(weights.astype(int)).max(axis=0) * scales * 2.0 ** (layer.shifts - 24.0 - shift)) > 127.5
    assert np.abs(before - after)[:, ~loose].max(initial=0) <= (0.5 * unit + 0.5 / 2.0**layer.shifts + 0.1).max()
    largest = np.abs(layer.weights.astype(int)).max(axis=0)
    assert ((largest >= 64) | (layer.shifts == MAX_SHIFT) | (np.abs(weights).max(axis=0) == 0)).all()


def test_a_folded_layer_is_always_a_valid_one():
    """Dead channels, running means at their limits, no room for a bias."""
    weights = np.full((1040, 4), 127, dtype=np.int8)
    mean = np.array([RUNNING_LIMIT, -RUNNING_LIMIT, 0, 1])
    layer = fold(weights, mean, channel_scales(np.array([0, 1, RUNNING_LIMIT, 300]), 8), 10, 127)
    room = EXACT - 127 * np.abs(layer.weights.astype(int)).sum(axis=0)
    assert (np.abs(layer.biases) < room).all() and layer.shifts.max() <= MAX_SHIFT
    assert not fold(np.zeros((3, 4), dtype=np.int8), mean, np.full(4, 1 << 26), 0, 255).weights.any()


def test_the_exact_bound_is_checked_on_the_weights():
    """A graph that no space would make: 2000 inputs to one output."""
    graph = Graph((Node("input", (), 1, 1, 2000), Node("conv", (0,), 1, 1, 2)))
    most = (EXACT - 1) // 127  # the largest sum of magnitudes
    weights = np.zeros((2000, 2), dtype=np.int8)
    weights[: most // 127, 1] = -127
    weights[most // 127, 1] = most % 127
    none = np.zeros(2, dtype=np.int32), np.zeros(2, dtype=np.uint8)
    decode_model(Model((Layer(weights, *none),), 0).encode(), graph)
    weights[1999, 1] = 1
    with pytest.raises(BadModel, match="exact range"):
        decode_model(Model((Layer(weights, *none),), 0).encode(), graph)


def test_another_graph_is_refused():
    other = random_graph(random.Random(2), InputShape(6, 6, 1, 3))
    assert other.cost.parameters != GRAPH.cost.parameters
    with pytest.raises(BadModel):
        decode_model(MODEL, other)
    with pytest.raises(BadState):
        decode_state(STATE.encode(), other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights", MASTER_LIMIT + 1),
        ("weights", -(2**31)),
        ("momentum", MOMENTUM_LIMIT + 1),
        ("momentum", -(2**31)),
        ("running", RUNNING_LIMIT + 1),
    ],
)
def test_values_that_training_never_reaches_are_refused(field, value):
    arrays = {name: getattr(STATE, name).copy() for name in ("weights", "momentum", "running")}
    arrays[field][3] = value
    with pytest.raises(BadState, match="beyond"):
        decode_state(State(**arrays, step=0).encode(), GRAPH)


def test_state_headers_are_checked():
    data = STATE.encode()
    for bad in (
        b"PNS1" + data[4:],
        data[:4] + struct.pack("<I", 1 << 21) + data[8:],
        data[:8] + b"\0\0\0\0" + data[12:],
    ):
        with pytest.raises(BadState, match="header"):
            decode_state(bad, GRAPH)


@settings(deadline=None, print_blob=True)
@given(st.integers(1, 1 << 20), st.booleans())
def test_initial_weights_have_the_range_of_he(fan_in, relu):
    limit, exponent = initial_range(fan_in, relu)
    assert (1 << 14) - 1 <= limit <= 1 << 15
    assert abs(limit * 2.0**exponent - ((6 if relu else 3) / fan_in) ** 0.5) <= 2.0**exponent
