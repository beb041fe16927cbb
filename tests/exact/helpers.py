"""Random networks and data, from an explicit `random.Random`, for the tests of exact training."""

import random

import numpy as np

from consensus.datasets import Dataset, Split
from consensus.spaces import Graph, InputShape, InvalidGenotype, get_space
from consensus.spaces.graph import GraphBuilder

SPACE = get_space("stages-v1")


def random_graph(rng: random.Random, shape: InputShape, max_macs: int = 120_000, space: str = "stages-v1") -> Graph:
    """A random network of a space that fits the shape and is small enough for the reference."""
    source = get_space(space)
    while True:
        try:
            graph = source.decode(source.sample(rng), shape)
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


def tangled(rng: random.Random, shape: InputShape) -> Graph:
    """Random sums of smoothed, rectified, convolved and plain earlier nodes, the same one twice among them."""
    build = GraphBuilder(shape)
    nodes = [build.conv(0, 4, 3, relu=rng.random() < 0.5)]
    for _ in range(rng.randint(2, 6)):
        source = rng.choice(nodes)
        kind = rng.randrange(4)
        if kind == 0:
            nodes.append(build.smooth(source, rng.choice([3, 5])))
        elif kind == 1:
            nodes.append(build.rectify(source))
        elif kind == 2:
            nodes.append(build.conv(source, 4, rng.choice([1, 3]), relu=rng.random() < 0.5))
        else:
            nodes.append(build.add(source, rng.choice(nodes), relu=rng.random() < 0.5))
    last = nodes[0]
    for other in nodes[1:]:
        last = build.add(last, other, relu=False)
    node = build.nodes[last]
    return build.logits(build.pool("sum_pool", last, (node.height, node.width)), shape.classes)
