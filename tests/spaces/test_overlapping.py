"""Sums over windows that overlap, and rectifiers: fast against the definition, alone and in whole trainings."""

import random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.exact import Recipe, decode_model, evaluate, fast, initial_state, reference, run_segment, train
from consensus.exact.engine import Engine
from consensus.spaces import InputShape, InvalidGenotype
from consensus.spaces.graph import GraphBuilder, Node
from tests.exact.helpers import random_dataset, tangled

SEEDS = st.integers(0, 2**32)


@settings(deadline=None, print_blob=True)
@given(SEEDS, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]))
@example(520, torch.float32, 1, 2)  # one pixel, of which a stride takes all
def test_overlapping_sums(seed, dtype, size, stride):
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    height, width, channels = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 5)
    out = -(-height // stride), -(-width // stride)
    node = Node("sum_pool", (0,), *out, channels, (size, size), (stride, stride), size // 2)
    values = noise.choice([-127, 127, 1], (3, height, width, channels))
    gradient = noise.integers(-127, 128, (3, *out, channels))
    x, g = (torch.from_numpy(array).to(dtype) for array in (values, gradient))
    truth = reference.pool(values, node)
    computed = fast.pool(x, node)
    assert np.array_equal(computed.numpy(), truth)
    assert computed.data_ptr() != x.data_ptr(), "what a pool gives is overwritten later"
    back = fast.pool_gradient(g, x, computed, node)
    assert np.array_equal(back.numpy(), reference.pool_gradient(gradient, values, truth, node))
    assert np.array_equal(g.numpy(), gradient) and np.array_equal(x.numpy(), values)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lazy", [False, True])
def test_networks_of_them_train_as_the_definition_says(seed, lazy, monkeypatch):
    rng = random.Random(seed)
    shape = InputShape(rng.randint(3, 7), rng.randint(3, 7), rng.randint(1, 2), 3)
    graph, dataset = tangled(rng, shape), random_dataset(rng, shape)
    recipe = Recipe(steps=3, batch=6, segments=1)
    if lazy:
        monkeypatch.setattr(Engine.__init__, "__defaults__", (True,))
    start = initial_state(graph, b"s")
    one = run_segment(graph, dataset, recipe, b"s", start, 0)
    two = reference.run_segment(graph, dataset, recipe, b"s", start)
    assert one.digest() == two.digest()
    model = decode_model(train(graph, dataset, recipe, b"s").model, graph)
    split = dataset.test
    assert evaluate(graph, model, split.samples, split.labels) == reference.evaluate(
        graph, model, split.samples, split.labels
    )


def test_a_window_whose_sum_could_be_inexact_is_refused():
    build = GraphBuilder(InputShape(400, 400, 1, 2))
    with pytest.raises(InvalidGenotype, match="exact range"):
        build.smooth(0, 399)
