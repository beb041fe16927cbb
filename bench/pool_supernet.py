"""How well a supernet ranks cells: against their exact scores, and against their number of parameters."""

from __future__ import annotations

import random
import time

import numpy as np
import torch

from consensus.datasets import digits
from consensus.exact import Recipe, train
from consensus.exact.training import finish
from consensus.spaces import InputShape, InvalidGenotype, get_space
from ponas_node.supernet.search import Budget, search

SPACE = get_space("nb201-v1")
RECIPE = Recipe(steps=96, batch=32, segments=8, learning_rate=640)
SEED = 20260101


def figures(quick: bool = False) -> dict[str, object]:
    """Spearman's rank correlations over random cells on the digits; `quick` takes fewer cells."""
    torch.set_num_threads(1)
    data, count = digits(), 12 if quick else 48
    cells = _cells(200, data.shape)
    exact = []
    for cell in cells[:count]:
        exact.append(float(train(SPACE.decode(cell, data.shape), data, RECIPE, b"table").validation_correct))
    start = time.process_time()
    losses = {found.cell: found.loss for found in finish(search(data, cells, SEED, Budget(candidates=len(cells))))}
    seconds = time.process_time() - start
    weights = [float(SPACE.cost(cell, data.shape).parameters) for cell in cells[:count]]
    best = sorted(range(count), key=lambda place: losses[cells[place]])[: count // 4]
    return {
        "cells": count,
        "correlation_with_exact": round(spearman([-losses[cell] for cell in cells[:count]], exact), 3),
        "correlation_of_parameters_with_exact": round(spearman(weights, exact), 3),
        "mean_exact_score": round(float(np.mean(exact)), 1),
        "mean_exact_score_of_best_quarter": round(float(np.mean([exact[place] for place in best])), 1),
        "validation_samples": len(data.validation),
        "processor_seconds_of_the_supernet": round(seconds, 1),
    }


def spearman(one: list[float], two: list[float]) -> float:
    """Rank correlation; ties share their mean rank."""
    return float(np.corrcoef(_ranks(one), _ranks(two))[0, 1])


def _ranks(values: list[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], np.float64)


def _cells(count: int, shape: InputShape) -> list[bytes]:
    """Random cells that can be trained on the digits."""
    rng, found = random.Random(SEED), dict[bytes, None]()
    while len(found) < count:
        cell = SPACE.sample_uniform(b"", rng)
        try:
            SPACE.cost(cell, shape)
        except InvalidGenotype:
            continue
        found[cell] = None
    return list(found)
