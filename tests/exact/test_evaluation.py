"""Evaluation: what the definition says, whatever the batch, the device and the other samples."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import Model, evaluate, evaluation, initial_state, logits, quantise, reference
from consensus.exact.model import Layer
from consensus.spaces import Graph, InputShape
from consensus.spaces.graph import Node
from tests.exact.helpers import random_dataset, random_graph, random_shape


@settings(deadline=None, max_examples=25, print_blob=True)
@given(st.integers(0, 2**32))
def test_evaluation_is_what_the_definition_says(seed):
    rng = random.Random(seed)
    shape = random_shape(rng)
    graph, dataset = random_graph(rng, shape), random_dataset(rng, shape)
    model = quantise(initial_state(graph, rng.randbytes(8)), graph)
    split = dataset.train
    # Labels that the network is right about, so that counts are not all near zero.
    predicted = [reference.forward(graph, sample[None], model).argmax() for sample in split.samples]
    labels = np.where(np.arange(len(split)) % 3 == 0, split.labels, predicted).astype(np.uint16)
    truth = reference.evaluate(graph, model, split.samples, labels)
    for batch, device in ((1, "cpu"), (5, "cpu"), (256, "cpu"), (7, "cpu64")):
        assert evaluate(graph, model, split.samples, labels, device, batch) == truth


def two_class(weights: list[list[int]]) -> tuple[Graph, Model]:
    classes = len(weights[0])
    graph = Graph((Node("input", (), 1, 1, 2), Node("conv", (0,), 1, 1, classes)))
    none = np.zeros(classes, dtype=np.int32), np.zeros(classes, dtype=np.uint8)
    return graph, Model((Layer(np.array(weights, dtype=np.int8), *none),), 0)


def test_a_tie_is_not_correct():
    samples = np.array([[[[1, 1]]], [[[1, 2]]], [[[2, 1]]]], dtype=np.uint8)
    graph, model = two_class([[1, 0, -5], [0, 1, -5]])
    assert evaluate(graph, model, samples, np.array([0, 0, 0], dtype=np.uint16)) == 1
    assert evaluate(graph, model, samples, np.array([1, 1, 1], dtype=np.uint16)) == 1
    assert reference.evaluate(graph, model, samples, np.array([1, 1, 1], dtype=np.uint16)) == 1


def test_a_bright_sample_does_not_dim_the_others():
    samples = np.array([[[[255, 255]]], [[[1, 0]]]], dtype=np.uint8)
    graph, model = two_class([[1, 0], [0, 1]])
    labels = np.array([0, 0], dtype=np.uint16)
    assert evaluate(graph, model, samples, labels) == 1 == evaluate(graph, model, samples[1:], labels[1:])


def test_large_networks_are_evaluated_in_small_batches(monkeypatch):
    rng = random.Random(6)
    shape = InputShape(8, 8, 1, 5)
    graph, dataset = random_graph(rng, shape), random_dataset(rng, shape)
    model = quantise(initial_state(graph, b"x"), graph)
    samples, labels = dataset.train.samples, dataset.train.labels
    whole = evaluate(graph, model, samples, labels)
    sizes = []
    whole_logits = evaluation.Inference.logits

    def spy(inference, batch):
        sizes.append(len(batch))
        return whole_logits(inference, batch)

    monkeypatch.setattr(evaluation.Inference, "logits", spy)
    monkeypatch.setattr(evaluation, "MAX_ELEMENTS", 3 * evaluation.widest(graph) + 1)
    assert evaluate(graph, model, samples, labels) == whole
    assert set(sizes) == {3} and sum(sizes) >= len(samples)


def test_inference_mode_ends_with_each_batch():
    graph = random_graph(random.Random(1), InputShape(4, 4, 1, 2))
    model = quantise(initial_state(graph, b""), graph)
    for start, _ in logits(graph, model, np.zeros((5, 4, 4, 1), dtype=np.uint8), batch=2):
        assert not torch.is_inference_mode_enabled(), start


def test_what_does_not_fit_is_refused():
    graph = random_graph(random.Random(1), InputShape(4, 4, 1, 2))
    model = quantise(initial_state(graph, b""), graph)
    samples, labels = np.zeros((2, 4, 4, 1), dtype=np.uint8), np.array([0, 2], dtype=np.uint16)
    with pytest.raises(ValueError, match="label"):
        evaluate(graph, model, samples, labels)
    with pytest.raises(ValueError, match="one label"):
        evaluate(graph, model, samples[:1], labels)
    for bad in (samples[:, :3], samples[..., 0]):
        with pytest.raises(ValueError, match="shape"):
            evaluate(graph, model, bad, labels % 2)


def test_no_samples_no_hits():
    graph = random_graph(random.Random(1), InputShape(4, 4, 1, 2))
    model = quantise(initial_state(graph, b""), graph)
    assert evaluate(graph, model, np.zeros((0, 4, 4, 1), dtype=np.uint8), np.zeros(0, dtype=np.uint16)) == 0
