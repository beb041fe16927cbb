"""The shared weights rank cells as exact training does, better than chance."""

import random

import numpy as np
import pytest

from consensus.datasets import digits
from consensus.exact import Recipe, train
from consensus.exact.training import finish
from consensus.spaces import InvalidGenotype, get_space
from ponas_node.supernet.search import Budget, search

SPACE = get_space("nb201-v1")
RECIPE = Recipe(steps=96, batch=32, segments=8, learning_rate=640)
ARCHITECTURES = 40
SEEDS = 2


def admitted(shape):
    found = []
    for index in range(SPACE.distinct_count()):
        cell = SPACE.at(b"", index)
        try:
            SPACE.cost(cell, shape)
        except InvalidGenotype:
            continue
        found.append(cell)
    return found


def ranks(values):
    order = np.argsort(np.argsort(values))
    return (order - order.mean()) / order.std()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_its_ranking_correlates_with_exact_scores():
    """A permutation test at 1 % over 40 random cells; scores are means over seeds."""
    seed = 20260
    print("seed", seed)
    rng, data = random.Random(seed), digits()
    cells = rng.sample(admitted(data.shape), 200)
    picked = cells[:ARCHITECTURES]
    exact = np.zeros(ARCHITECTURES)
    for index, cell in enumerate(picked):
        graph = SPACE.decode(cell, data.shape)
        exact[index] = sum(train(graph, data, RECIPE, bytes([s])).validation_correct for s in range(SEEDS)) / SEEDS
    shared = np.zeros(ARCHITECTURES)
    for s in range(SEEDS):
        losses = {found.cell: found.loss for found in finish(search(data, cells, s, Budget(candidates=len(cells))))}
        shared -= ranks([losses[cell] for cell in picked])
    correlation = float(np.mean(ranks(shared) * ranks(exact)))
    noise = np.random.default_rng(seed)
    chance = [np.mean(noise.permutation(ranks(shared)) * ranks(exact)) for _ in range(10_000)]
    print(sorted(zip(exact, shared, [SPACE.text(cell) for cell in picked], strict=True)))
    print(f"Spearman {correlation:.3f}; 1 % of chance is above {np.quantile(chance, 0.99):.3f}")
    assert correlation > np.quantile(chance, 0.99)
