"""Whole training segments: fast path against the definition, golden digests, and what must not matter."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from consensus.datasets import digits
from consensus.exact import (
    Recipe,
    State,
    Stopped,
    decode_model,
    decode_state,
    initial_state,
    quantise,
    reference,
    run_segment,
    train,
)
from consensus.exact.engine import Engine
from consensus.exact.products import int8_is_exact
from consensus.exact.recipe import MASTER_LIMIT, MOMENTUM_LIMIT, RUNNING_LIMIT
from consensus.exact.step import Step
from consensus.exact.training import Candidate, Trainer, finish
from consensus.spaces import InputShape
from tests.exact.helpers import SPACE, random_dataset, random_graph, random_shape

SHORT = Recipe(steps=4, batch=6, segments=2)
GENOTYPE = "010302050201010103030200000002"
"""conv5-24 | stride: 2 x res3-16 | mean: 1 x conv3-24 | 2 x conv1-8 | quadrants"""
GOLDEN_RECIPE = Recipe(steps=16, batch=32, segments=2)


@settings(deadline=None, max_examples=25, print_blob=True)
@given(st.integers(0, 2**32))
def test_segments_are_what_the_definition_says(seed):
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph, dataset = random_graph(rng, shape), random_dataset(rng, shape)
    recipe = Recipe(4, rng.randint(1, 40), 2, rng.choice([1, 256, 1 << 15]))
    key = rng.randbytes(32)
    state = truth = initial_state(graph, key)
    for index in range(2):
        state = run_segment(graph, dataset, recipe, key, state, index)
        truth = reference.run_segment(graph, dataset, recipe, key, truth)
        assert state.encode() == truth.encode()


def hostile(rng, count, limit):
    """Values within +-limit that no training would leave behind."""
    pick = np.random.default_rng(rng.getrandbits(64))
    values = rng.choice([
        pick.integers(-limit, limit, count, endpoint=True),
        limit * pick.choice([-1, 1], count),
        np.full(count, rng.choice([limit, -limit, 0])),
        np.where(pick.random(count) < 0.05, limit, 0),
    ])  # fmt: skip
    return values.astype(np.int32)


@settings(deadline=None, max_examples=25, print_blob=True)
@given(st.integers(0, 2**32))
def test_segments_from_states_that_somebody_made_up_are_exact_too(seed):
    """A challenge replays a segment from whatever state a cheat put under a leaf, as long as it decodes."""
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph, dataset, key = random_graph(rng, shape), random_dataset(rng, shape), rng.randbytes(32)
    recipe = Recipe(4, rng.randint(1, 40), 2, rng.choice([1, 256, 1 << 15]))
    like = initial_state(graph, key)
    limits = ((like.weights, MASTER_LIMIT), (like.momentum, MOMENTUM_LIMIT), (like.running, RUNNING_LIMIT))
    state = State(*[hostile(rng, len(part), limit) for part, limit in limits], recipe.segment_steps)
    assert decode_state(state.encode(), graph).encode() == state.encode()
    truth = reference.run_segment(graph, dataset, recipe, key, state).encode()
    assert run_segment(graph, dataset, recipe, key, state, 1).encode() == truth
    assert run_segment(graph, dataset, recipe, key, state, 1, "cpu64").encode() == truth
    folded = quantise(state, graph).encode()
    assert decode_model(folded, graph).encode() == folded


@settings(deadline=None, max_examples=10, print_blob=True)
@given(st.integers(0, 2**32))
def test_float64_and_exponents_on_the_device_give_the_same(seed):
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph, dataset, key = random_graph(rng, shape), random_dataset(rng, shape), rng.randbytes(32)
    start = initial_state(graph, key)
    digest = run_segment(graph, dataset, SHORT, key, start, 0).digest()
    assert run_segment(graph, dataset, SHORT, key, start, 0, "cpu64").digest() == digest
    other = Trainer(Candidate(graph, dataset, SHORT, key), "cpu")
    for lazy, int8 in ((True, True), (True, False), (False, True), (False, False)):
        if int8 and not int8_is_exact():
            continue
        other.step.engine = Engine(graph, "cpu", lazy, int8=int8)
        assert finish(other.run(start, 0)).digest() == digest


class NoReadBack(TorchDispatchMode):
    """Fails on whatever makes the host wait for a value of the device, or copies one to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert name not in ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "lift_fresh", "lift"), name
        return func(*args, **(kwargs or {}))


def test_a_step_on_an_accelerator_never_waits(monkeypatch):
    dataset = digits()
    graph = SPACE.decode(bytes.fromhex(GENOTYPE), dataset.shape)
    trainer = Trainer(Candidate(graph, dataset, SHORT, b"key"), "cpu")
    step, steps = Step.__call__, []

    def watched(self, *args, **options):
        if steps:  # the first step may still place constants on the device
            with NoReadBack():
                step(self, *args, **options)
        else:
            step(self, *args, **options)
        steps.append(args)

    monkeypatch.setattr(Step, "__call__", watched)
    with pytest.raises(AssertionError, match="item"):
        finish(trainer.run(initial_state(graph, b"key"), 0))
    steps.clear()
    trainer.step.engine = Engine(graph, "cpu", lazy=True)
    finish(trainer.run(initial_state(graph, b"key"), 0))
    assert len(steps) == 2


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_threads_and_onednn_do_not_matter():
    dataset = digits()
    graph = SPACE.decode(bytes.fromhex(GENOTYPE), dataset.shape)

    def leaves() -> tuple[bytes, ...]:
        return train(graph, dataset, GOLDEN_RECIPE, b"golden").leaves

    truth = leaves()
    torch.set_num_threads(2)
    assert leaves() == truth
    torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        assert leaves() == truth


def test_generators_of_torch_do_not_matter():
    rng = random.Random(3)
    shape = InputShape(8, 8, 1, 4)
    graph, dataset = random_graph(rng, shape), random_dataset(rng, shape)
    torch.manual_seed(1)
    one = train(graph, dataset, SHORT, b"key")
    torch.manual_seed(2)
    assert train(graph, dataset, SHORT, b"key") == one
    assert train(graph, dataset, SHORT, b"kez").leaves != one.leaves


def test_train_is_its_segments():
    dataset = digits()
    graph = random_graph(random.Random(4), dataset.shape)
    seen = []
    result = train(graph, dataset, SHORT, b"key", on_step=seen.append)
    assert seen == [1, 2, 3, 4]
    state = initial_state(graph, b"key")
    assert state.digest() == result.leaves[0]
    for index in range(2):
        state = run_segment(graph, dataset, SHORT, b"key", state, index)
        assert state.digest() == result.leaves[index + 1]
    model = decode_model(result.model, graph)
    split = dataset.validation
    assert reference.evaluate(graph, model, split.samples, split.labels) == result.validation_correct
    assert result.validation_total == len(split)


def test_training_stops_when_asked():
    dataset = digits()
    graph = random_graph(random.Random(4), dataset.shape)
    steps = []
    with pytest.raises(Stopped):
        train(graph, dataset, SHORT, b"key", on_step=steps.append, should_stop=lambda: len(steps) == 3)
    assert steps == [1, 2, 3]


def test_what_does_not_fit_is_refused():
    dataset = digits()
    graph = random_graph(random.Random(4), dataset.shape)
    state = initial_state(graph, b"key")
    for index in (-1, 1, 2):
        with pytest.raises(ValueError, match="not the start"):
            run_segment(graph, dataset, SHORT, b"key", state, index)
    with pytest.raises(ValueError, match="another shape"):
        train(random_graph(random.Random(4), InputShape(8, 9, 1, 10)), dataset, SHORT, b"key")
    with pytest.raises(ValueError, match="number of classes"):
        train(random_graph(random.Random(4), InputShape(8, 8, 1, 9)), dataset, SHORT, b"key")


BAD_RECIPES = [
    (0, 1, 1),
    (10, 1, 3),
    (10, 0, 1),
    (10, 5000, 1),
    (10, 1, 0),
    (1 << 21, 1, 1),
    (600, 1, 300),
    (1, 1, 1, 0),
]


@pytest.mark.parametrize("numbers", BAD_RECIPES)
def test_bad_recipes_are_refused(numbers):
    with pytest.raises(ValueError, match="recipe"):
        Recipe(*numbers)


def test_the_rate_falls_smoothly_and_never_to_zero():
    recipe = Recipe(steps=400, batch=1, segments=4, learning_rate=256)
    assert [recipe.rate(step) for step in (0, 100, 200, 399)] == [256, 216, 128, 1]
