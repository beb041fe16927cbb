"""Random networks and data, from an explicit `random.Random`, for the tests of exact training."""

import random

import numpy as np

from consensus.datasets import Dataset, Split
from consensus.spaces import Graph, InputShape, InvalidGenotype, get_space

SPACE = get_space("stages-v1")


def random_graph(rng: random.Random, shape: InputShape, max_macs: int = 120_000) -> Graph:
    """A random network of the space that fits the shape and is small enough for the reference."""
    while True:
        try:
            graph = SPACE.decode(SPACE.sample(rng), shape)
        except InvalidGenotype:
            continue
        if graph.cost.macs <= max_macs:
            return graph


def random_dataset(rng: random.Random, shape: InputShape, counts=(19, 7, 11)) -> Dataset:
    """Samples that are noise, flat, sparse or all extreme, as uint8 or int8."""
    noise = np.random.default_rng(rng.getrandbits(32))
    kind = rng.choice([np.uint8, np.int8])
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    style = rng.choice(["noise", "small", "sparse", "extreme", "zero"])

    def split(count: int) -> Split:
        size = (count, shape.height, shape.width, shape.channels)
        if style == "noise":
            samples = noise.integers(low, high + 1, size)
        elif style == "small":
            samples = noise.integers(0, 3, size)
        elif style == "sparse":
            samples = noise.integers(low, high + 1, size) * (noise.random(size) < 0.05)
        elif style == "extreme":
            samples = noise.choice([low, high], size)
        else:
            samples = np.zeros(size)
        return Split(samples.astype(kind), noise.integers(0, shape.classes, count).astype(np.uint16))

    return Dataset(style, shape, *(split(count) for count in counts))


def random_shape(rng: random.Random) -> InputShape:
    """Small, often odd, not always square."""
    return InputShape(rng.randint(4, 11), rng.randint(4, 11), rng.randint(1, 3), rng.randint(2, 11))
