"""Training must train: accuracies on the digits, and every kind of block alive."""

import random

import numpy as np
import pytest

from consensus.datasets import digits
from consensus.exact import TESTNET_RECIPE, Recipe, decode_model, evaluate, initial_state, run_segment, train
from consensus.exact.recipe import TESTNET_MAX_MACS, TESTNET_MAX_PARAMETERS
from consensus.spaces import InvalidGenotype, stages
from tests.exact.helpers import SPACE

SEED = b"learning"


def accuracy(genotype: bytes, recipe: Recipe) -> float:
    """On the test split, after training from a fixed seed."""
    dataset = digits()
    graph = SPACE.decode(genotype, dataset.shape)
    model = decode_model(train(graph, dataset, recipe, SEED).model, graph)
    return evaluate(graph, model, dataset.test.samples, dataset.test.labels) / len(dataset.test)


def test_a_good_network_is_above_98_percent():
    # conv3-24 | max: 1 x res3-32 | quadrants
    assert accuracy(bytes([0, 3, 1, 5, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2]), TESTNET_RECIPE) > 0.98


@pytest.mark.parametrize("block", range(len(stages.BLOCKS)), ids=stages.BLOCKS)
def test_every_block_learns_in_depth(block):
    # conv3-16 | max: 3 x BLOCK-16 | quadrants
    assert accuracy(bytes([0, 2, 3, block, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2]), Recipe(160, 32, 1)) > 0.9


def test_every_layer_of_a_residual_network_moves():
    dataset = digits()
    graph = SPACE.decode(bytes([0, 2, 2, 5, 2, 2, 2, 7, 3, 0, 2, 6, 2, 1, 0]), dataset.shape)
    start = initial_state(graph, SEED)
    end = run_segment(graph, dataset, Recipe(20, 32, 1), SEED, start, 0)
    position = 0
    for rows, columns in graph.weight_shapes.values():
        layer = slice(position, position + rows * columns)
        position += rows * columns
        assert np.mean(start.weights[layer] != end.weights[layer]) > 0.5


@pytest.mark.long
def test_random_networks_learn():
    rng = random.Random(20)
    found = []
    while len(found) < 20:
        genotype = SPACE.sample(rng)
        try:
            cost = SPACE.cost(genotype, digits().shape)
        except InvalidGenotype:
            continue
        if cost.macs <= TESTNET_MAX_MACS and cost.parameters <= TESTNET_MAX_PARAMETERS:
            found.append(accuracy(genotype, TESTNET_RECIPE))
    assert max(found) >= 0.99
    assert np.mean(found) >= 0.975
    assert np.median(found) >= 0.98
