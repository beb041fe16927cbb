"""Both ways of inference give what the definition says; convolutions of bytes serve only where they are exact."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import State, convolution, decode_model, initial_state, quantise, reference
from consensus.exact.convolution import RANGES, is_exact
from consensus.exact.inference import Inference, kinds
from consensus.spaces import InputShape
from consensus.spaces.graph import GraphBuilder
from tests.exact.helpers import random_dataset, random_graph, random_shape, tangled


@pytest.fixture
def forget():
    is_exact.cache_clear()
    yield
    is_exact.cache_clear()


@settings(deadline=None, max_examples=60, print_blob=True)
@given(st.integers(0, 2**32), st.sampled_from(["stages-v1", "tangled", "nb201-v1", "mlp-v1"]))
def test_all_ways_give_the_logits_of_the_definition(seed, name):
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph = tangled(rng, shape) if name == "tangled" else random_graph(rng, shape, 500_000, name)
    samples = random_dataset(rng, shape).test.samples
    start = initial_state(graph, rng.randbytes(8))
    running = np.random.default_rng(seed).integers(256, 1 << rng.randint(9, 20), len(start.running)).astype(np.int32)
    model = quantise(State(start.weights, start.momentum, running, 0), graph)
    assert decode_model(model.encode(), graph).encode() == model.encode()
    truth = reference.forward(graph, samples, model).reshape(len(samples), -1)
    for device, bytes in (("cpu", False), ("cpu64", False), ("cpu", True)):
        if bytes and not is_exact("small", split=False):
            continue
        inference = Inference(graph, model, device, samples.dtype == np.int8, len(samples), bytes=bytes)
        computed = inference.logits(samples)
        assert np.array_equal(computed.double().numpy(), truth), (device, bytes)
        assert np.array_equal(inference.logits(samples[:1]).double().numpy(), truth[:1])


def test_kinds_of_bytes():
    build = GraphBuilder(InputShape(8, 8, 1, 3))
    stem = build.conv(0, 4, 3)
    both = build.add(stem, build.conv(stem, 4, 3, relu=False), relu=False)
    rest = build.rectify(build.pool("max_pool", both, (2, 2)))
    graph = build.logits(build.pool("sum_pool", rest, (4, 4)), 3)
    assert kinds(graph, False) == ["whole", "small", "signed", "signed", "signed", "small", None, None]
    assert kinds(graph, True)[0] == "signed"


@pytest.mark.parametrize("seed", range(8))
def test_layers_that_must_be_split_give_the_same(seed, monkeypatch):
    """What happens on a CPU without VNNI."""
    if not all(is_exact(kind, split=True) for kind in RANGES):
        pytest.skip("not exact here")
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph, samples = random_graph(rng, shape, 500_000), random_dataset(rng, shape).test.samples
    model = quantise(initial_state(graph, b"split"), graph)
    truth = reference.forward(graph, samples, model).reshape(len(samples), -1)
    monkeypatch.setattr("consensus.exact.inference.is_exact", lambda kind, split: split or kind == "small")
    inference = Inference(graph, model, "cpu", samples.dtype == np.int8, len(samples), bytes=True)
    assert inference.byte_layers[1].split and np.array_equal(inference.logits(samples).double().numpy(), truth)


@pytest.mark.parametrize("kind", RANGES)
def test_each_layer_whose_kind_is_inexact_is_computed_in_floats(kind, monkeypatch):
    rng = random.Random(5)
    shape = InputShape(8, 8, 2, 4)
    graph, samples = random_graph(rng, shape, 500_000), random_dataset(rng, shape).test.samples
    monkeypatch.setattr("consensus.exact.inference.is_exact", lambda other, split: other != kind)
    signed = samples.dtype == np.int8
    inference = Inference(graph, quantise(initial_state(graph, b""), graph), "cpu", signed, 4, bytes=True)
    used = {index: kinds(graph, signed)[graph.nodes[index].inputs[0]] for index in graph.weight_shapes}
    assert all((index in inference.byte_layers) == (used[index] not in (kind, None)) for index in used)


@pytest.mark.parametrize(
    ("fault", "fine"),
    [
        (lambda out: out, set(RANGES)),
        (lambda out: out ^ (out == 127), set()),
        (lambda out: torch.where(out > 64, out - 1, out), set()),
    ],
    ids=["none", "the largest value", "a lost bit"],
)
def test_wrong_convolutions_are_noticed(fault, fine, monkeypatch, forget):
    if not all(is_exact(kind, split) for kind in RANGES for split in (False, True)):
        pytest.skip("not exact here anyway")
    is_exact.cache_clear()
    call = convolution.ByteConvolution.__call__
    monkeypatch.setattr(convolution.ByteConvolution, "__call__", lambda layer, values: fault(call(layer, values)))
    assert {kind for kind in RANGES if is_exact(kind, split=False)} == fine
    assert {kind for kind in RANGES if is_exact(kind, split=True)} == fine


def test_a_library_without_them_is_no_error(monkeypatch, forget, caplog):
    def missing(*_):
        raise RuntimeError("not compiled in\nat line 1")

    monkeypatch.setattr(torch.ops.onednn, "qconv_prepack", missing)
    caplog.set_level("INFO")
    assert not is_exact("small", split=False) and "not compiled in);" in caplog.text
