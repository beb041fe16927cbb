"""The definition of exact training and evaluation, in plain int64 arithmetic of NumPy. Slow and plain on purpose.

Values are int64, of magnitude at most 127 between layers (`plan` says where more); arrays are NHWC. Gradients carry an
exponent: value * 2^exponent. Evaluation treats each sample alone. Source: protocol, section 1; docs/exact-training.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from consensus.datasets import Dataset
from consensus.exact import streams
from consensus.exact.model import Layer, Model, channel_scales, target, training_weights
from consensus.exact.plan import plan
from consensus.exact.recipe import (
    BACK_SHIFT,
    EXP_TABLE,
    GRADIENT_BITS,
    LOGIT_BITS,
    MASTER_LIMIT,
    MEET_BITS,
    NORMAL_GRADIENT_BITS,
    PART_BITS,
    PROBABILITY_BITS,
    RUNNING_SHIFT,
    SCALE_BITS,
    Recipe,
)
from consensus.exact.state import State
from consensus.spaces.graph import Graph, Node

MAX_ALIGN = 8


class Scaled(NamedTuple):
    """`values` * 2^`exponent`."""

    values: np.ndarray
    exponent: int


def bits(values: np.ndarray) -> int:
    """Bit length of the largest magnitude."""
    return int(np.abs(values).max()).bit_length()


def shift_nearest(values: np.ndarray, shift: int) -> np.ndarray:
    """values / 2^shift to the nearest integer, halves to the even one. Negative shifts multiply."""
    if shift <= 0:
        return values << -shift
    floor = values >> shift
    rest, half = values - (floor << shift), 1 << (shift - 1)
    up: np.ndarray = (rest > half) | ((rest == half) & (floor % 2 == 1))
    return np.asarray(floor + up)


def requantise_dithered(raw: Scaled, dither: np.ndarray) -> Scaled:
    """To 7 bits and a sign: floor(value / 2^shift + dither / 256), at most 127: right on average."""
    shift = max(0, bits(raw.values) - 7)
    scaled = (raw.values * 256 + (dither.reshape(raw.values.shape) << shift)) >> (shift + 8)
    return Scaled(np.clip(scaled, -127, 127), raw.exponent + shift)


def to_bits(raw: Scaled, wanted: int) -> Scaled:
    """Scaled by a power of two so that the largest magnitude has `wanted` bits; halves to even."""
    shift = bits(raw.values) - wanted
    return Scaled(shift_nearest(raw.values, shift), raw.exponent + shift)


def meet(one: Scaled, two: Scaled) -> Scaled:
    """Sum of two gradients of 14 bits, in units of the finer, but at most 8 bits below the coarser; rounded down."""
    one, two = to_bits(one, MEET_BITS), to_bits(two, MEET_BITS)
    exponent = max(min(one.exponent, two.exponent), max(one.exponent, two.exponent) - MAX_ALIGN)
    return Scaled(_move(one, exponent) + _move(two, exponent), exponent)


def _move(tensor: Scaled, exponent: int) -> np.ndarray:
    distance = tensor.exponent - exponent
    return tensor.values << distance if distance >= 0 else tensor.values >> min(-distance, 63)


def window(node: Node, row: int, column: int, height: int, width: int) -> tuple[list[int], list[int]]:
    """Input rows and columns that the outputs see at (row, column) of their windows; -1 where that is padding."""
    rows = [index * node.stride[0] + row - node.pad for index in range(node.height)]
    columns = [index * node.stride[1] + column - node.pad for index in range(node.width)]
    return [r if 0 <= r < height else -1 for r in rows], [c if 0 <= c < width else -1 for c in columns]


def tap(values: np.ndarray, node: Node, row: int, column: int) -> np.ndarray:
    """What the outputs see at (row, column) of their windows, 0 in the padding: (batch, height, width, channels)."""
    rows, columns = window(node, row, column, values.shape[1], values.shape[2])
    seen = values[:, rows][:, :, columns]
    seen[:, np.array(rows) < 0] = 0
    seen[:, :, np.array(columns) < 0] = 0
    return seen


def untap(values: np.ndarray, node: Node, row: int, column: int, into: np.ndarray) -> None:
    """Add to each input pixel what belongs to it: the transpose of `tap`."""
    rows, columns = window(node, row, column, into.shape[1], into.shape[2])
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            if r >= 0 and c >= 0:
                into[:, r, c] += values[:, i, j]


def taps(node: Node) -> list[tuple[int, int]]:
    """Places in a node's window, row by row."""
    return [(row, column) for row in range(node.kernel[0]) for column in range(node.kernel[1])]


def linear(values: np.ndarray, weights: np.ndarray, node: Node) -> np.ndarray:
    """`conv`: sum over the window and the channels; `depthwise`: sum over the window, channel by channel."""
    out = np.zeros((len(values), node.height, node.width, node.channels), dtype=np.int64)
    filters = weights.reshape(len(taps(node)), -1, node.channels)
    for (row, column), one in zip(taps(node), filters, strict=True):
        seen = tap(values, node, row, column)
        out += seen @ one if node.kind == "conv" else seen * one[0]
    return out


def linear_weight_gradient(values: np.ndarray, gradient: np.ndarray, node: Node) -> np.ndarray:
    """Derivative of `linear` by its weights, in their shape."""
    parts = []
    for row, column in taps(node):
        seen = tap(values, node, row, column)
        if node.kind == "conv":
            parts.append(seen.reshape(-1, seen.shape[3]).T @ gradient.reshape(-1, node.channels))
        else:
            parts.append((seen * gradient).sum(axis=(0, 1, 2))[None])
    return np.concatenate(parts)


def linear_input_gradient(gradient: np.ndarray, weights: np.ndarray, node: Node, like: np.ndarray) -> np.ndarray:
    """Derivative of `linear` by its input, in the shape of `like`."""
    out = np.zeros_like(like)
    filters = weights.reshape(len(taps(node)), -1, node.channels)
    for (row, column), one in zip(taps(node), filters, strict=True):
        share = gradient @ one.T if node.kind == "conv" else gradient * one[0]
        untap(share, node, row, column, out)
    return out


def pool(values: np.ndarray, node: Node) -> np.ndarray:
    """Sum or maximum over the window. (The padding's 0 is part of sums only: maxima are never padded.)"""
    seen = np.stack([tap(values, node, row, column) for row, column in taps(node)])
    return np.asarray(seen.sum(axis=0) if node.kind == "sum_pool" else seen.max(axis=0))


def pool_gradient(gradient: np.ndarray, values: np.ndarray, out: np.ndarray, node: Node) -> np.ndarray:
    """Every pixel of a sum gets the gradient; of a maximum, every pixel that attains it."""
    back = np.zeros_like(values)
    for row, column in taps(node):
        hit = 1 if node.kind == "sum_pool" else tap(values, node, row, column) == out
        untap(gradient * hit, node, row, column, back)
    return back


class Batch(NamedTuple):
    """What normalisation finds in a batch, by channel: mean, mean positive part in units of 2^-8, scale in 2^-24."""

    means: np.ndarray
    parts: np.ndarray
    scales: np.ndarray


def rounded_mean(sums: np.ndarray, count: int) -> np.ndarray:
    """sums / count to the nearest integer, halves up."""
    return np.asarray((2 * sums + count) // (2 * count))


def batch_statistics(sums: np.ndarray, wanted: int) -> Batch:
    """Of shifted sums (batch, height, width, channels), for a mean positive part of `wanted`."""
    count = sums.size // sums.shape[-1]
    means = rounded_mean(sums.sum(axis=(0, 1, 2)), count)
    positive = np.maximum(sums - means, 0).sum(axis=(0, 1, 2))
    parts = np.maximum((positive << PART_BITS) // count, 1 << PART_BITS)
    return Batch(means, parts, channel_scales(parts, wanted))


class Activations(NamedTuple):
    """What a training step leaves: every node's values, and by normalised node what was found in the batch."""

    values: list[np.ndarray]
    batches: dict[int, Batch]


def enter(graph: Graph, samples: np.ndarray) -> np.ndarray:
    """Samples as the network reads them."""
    whole = samples.astype(np.int64)
    return np.clip(shift_nearest(whole, 1), -127, 127) if plan(graph).halved else whole


def forward(graph: Graph, samples: np.ndarray, model: Model) -> np.ndarray:
    """Evaluation: the logits, full sums, (batch, 1, 1, classes)."""
    layers = dict(zip(graph.weight_shapes, model.layers, strict=True))
    done = [enter(graph, samples)]
    for index, node in enumerate(graph.nodes[1:], start=1):
        if index in layers:
            out = linear(done[node.inputs[0]], layers[index].weights.astype(np.int64), node)
            out = affine(out, layers[index]) if index in plan(graph).shifts else out
        else:
            out = unweighted(graph, index, done)
        done.append(np.maximum(out, 0) if node.relu else out)
    return done[-1]


def affine(sums: np.ndarray, layer: Layer) -> np.ndarray:
    """Sums of products with the layer's biases, shifted right, in int8's range."""
    total = sums + layer.biases
    by_channel = [shift_nearest(total[..., channel], int(shift)) for channel, shift in enumerate(layer.shifts)]
    return np.asarray(np.clip(np.stack(by_channel, axis=-1), -127, 127))


def train_forward(graph: Graph, samples: np.ndarray, weights: dict[int, np.ndarray]) -> Activations:
    """Training: normalised by what is found in the batch. The last node, the logits, keeps its full sums."""
    fixed, done = plan(graph), [enter(graph, samples)]
    batches: dict[int, Batch] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        if index in weights:
            out = linear(done[node.inputs[0]], weights[index].astype(np.int64), node)
            if index in fixed.shifts:
                out = shift_nearest(out, fixed.shifts[index])
                batches[index] = batch_statistics(out, target(graph, index))
                centred = out - batches[index].means
                out = np.clip(shift_nearest(centred * batches[index].scales, SCALE_BITS), -127, 127)
        else:
            out = unweighted(graph, index, done)
        done.append(np.maximum(out, 0) if node.relu else out)
    return Activations(done, batches)


def unweighted(graph: Graph, index: int, done: list[np.ndarray]) -> np.ndarray:
    """A sum of two branches or a pool, before its ReLU, from the values of the nodes before it."""
    node, fixed = graph.nodes[index], plan(graph)
    if node.kind == "add":
        one, two = (Scaled(done[source], fixed.exponents[source]) for source in node.inputs)
        finer = min(one.exponent, two.exponent)
        total = shift_nearest(_move(one, finer) + _move(two, finer), fixed.exponents[index] - finer)
        return np.asarray(np.clip(total, -127, 127))
    out = pool(done[node.inputs[0]], node)
    if node.kind == "sum_pool":
        multiplier, shift = fixed.means[index]
        out = shift_nearest(out * multiplier, shift)
    return out


def logit_exponent(graph: Graph, exponent: int) -> int:
    """The power of two in which logits enter the softmax, given that of the last layer's weights."""
    last = graph.nodes[-1]
    return exponent + plan(graph).exponents[last.inputs[0]] + last.gain


def loss_gradient(logits: Scaled, labels: np.ndarray) -> np.ndarray:
    """Softmax minus one-hot, in multiples of 2^-14, from logits in multiples of 2^-4 below the largest."""
    flat = logits.values.reshape(len(labels), -1)
    below = flat.max(axis=1, keepdims=True) - flat
    shift = logits.exponent + LOGIT_BITS
    steps = np.minimum(below, 255) << min(shift, 8) if shift >= 0 else below >> min(-shift, 63)
    weight = EXP_TABLE[np.minimum(steps, 255)]
    share: np.ndarray = (weight << PROBABILITY_BITS) // weight.sum(axis=1, keepdims=True)
    share[np.arange(len(labels)), labels] -= 1 << PROBABILITY_BITS
    return share.reshape(logits.values.shape)


def normal_gradient(arrived: Scaled, values: np.ndarray, relu: bool, wanted: int, dither: np.ndarray) -> Scaled:
    """int8 gradient of the shifted sums of a normalised layer, but for the scale of each channel.

    The derivative of (x - mean) / part, where `part` is the mean of the positive part, times what it is divided by.
    """
    share, exponent = to_bits(arrived, NORMAL_GRADIENT_BITS)
    active = values > 0
    if relu:
        share = share * active
    count = values.size // values.shape[-1]
    along = rounded_mean((share * values).sum(axis=(0, 1, 2)), wanted * count)
    share = share - along * active
    share = share - rounded_mean(share.sum(axis=(0, 1, 2)), count)
    scaled = (share * 256 + (dither.reshape(share.shape) << BACK_SHIFT)) >> (BACK_SHIFT + 8)
    return Scaled(np.clip(scaled, -127, 127), exponent + BACK_SHIFT)


def scaled_weights(weights: np.ndarray, scales: np.ndarray) -> Scaled:
    """Weights times the scales of their channels, to 7 bits and a sign; halves to even, at most 127."""
    raw = weights.astype(np.int64) * scales
    shift = max(0, bits(raw) - 7)
    return Scaled(np.clip(shift_nearest(raw, shift), -127, 127), shift - SCALE_BITS)


def backward(
    graph: Graph,
    done: Activations,
    weights: dict[int, np.ndarray],
    loss: np.ndarray,
    table: np.ndarray,
    start: int,
) -> dict[int, np.ndarray]:
    """Weight gradients by node, scaled so that the largest of a layer has 12 bits.

    `table` and `start`: thresholds of rounding. Normalised node n rounds at place of use n, the loss gradient at N, the
    number of nodes.
    """
    fixed, count = plan(graph), len(graph.nodes)

    def dither(values: np.ndarray, site: int) -> np.ndarray:
        return table[(start + streams.SITE_STRIDE * site + np.arange(values.size)) % streams.DITHER_PERIOD]

    arrived = {count - 1: Scaled(loss, 0)}
    layers = {}
    for index in range(count - 1, 0, -1):
        node, gradient, values = graph.nodes[index], arrived[index], done.values[index]
        if index == count - 1:
            gradient = requantise_dithered(gradient, dither(values, count))
        elif index in weights:
            wanted = target(graph, index)
            gradient = normal_gradient(gradient, values, node.relu, wanted, dither(values, index))
        elif node.relu:
            gradient = Scaled(gradient.values * (values > 0), gradient.exponent)
        if node.overlaps:
            gradient = to_bits(gradient, MEET_BITS)
        if index in weights:
            raw = linear_weight_gradient(done.values[node.inputs[0]], gradient.values, node)
            layers[index] = to_bits(Scaled(raw, 0), GRADIENT_BITS).values
        for source in node.inputs:
            if source == 0:
                continue
            before, scale = done.values[source], fixed.exponents[source] - fixed.exponents[index]
            if index == count - 1:
                share, scale = linear_input_gradient(gradient.values, weights[index].astype(np.int64), node, before), 0
            elif index in weights:
                layer = scaled_weights(weights[index], done.batches[index].scales)
                share = linear_input_gradient(gradient.values, layer.values, node, before)
                scale = layer.exponent - fixed.shifts[index]
            elif node.kind == "add":
                share = gradient.values
            else:
                share = pool_gradient(gradient.values, before, values, node)
                if node.kind == "sum_pool":  # about one over the number of pixels
                    scale += 1 - len(taps(node)).bit_length()
            back = Scaled(share, gradient.exponent + scale)
            arrived[source] = meet(arrived[source], back) if source in arrived else back
    return layers


def running(state: State, graph: Graph, batches: dict[int, Batch]) -> np.ndarray:
    """The state's running means after one more batch; before the first there are none, and the batch's are taken."""
    found = [part for index in plan(graph).shifts for part in (batches[index].means << PART_BITS, batches[index].parts)]
    new = np.concatenate([*found, np.zeros(0, dtype=np.int64)])
    if state.step == 0:
        return new
    old = state.running.astype(np.int64)
    return np.asarray(old + ((new - old + (1 << (RUNNING_SHIFT - 1))) >> RUNNING_SHIFT))


def train_step(graph: Graph, dataset: Dataset, recipe: Recipe, seed: bytes, state: State) -> State:
    """One step: a batch forward and backward, then momentum and a step of constant size against its sign.

    The sign is that of the momentum one step ahead (Nesterov): trunc(7 / 8 momentum) + gradient.
    """
    train = dataset.train
    chosen = streams.batch_indices(seed, len(train), recipe.batch, state.step)
    weights, exponent = training_weights(state, graph)
    done = train_forward(graph, train.samples[chosen], weights)
    logits = Scaled(done.values[-1], logit_exponent(graph, exponent))
    loss = loss_gradient(logits, train.labels[chosen].astype(np.int64))
    start = streams.dither_start(seed, state.step)
    layers = backward(graph, done, weights, loss, streams.dither_table(seed), start)
    gradient = np.concatenate([layers[index].ravel() for index in graph.weight_shapes])
    momentum = _decayed(state.momentum.astype(np.int64)) + gradient
    step = recipe.rate(state.step) * np.sign(_decayed(momentum) + gradient)
    master = np.clip(state.weights.astype(np.int64) - step, -MASTER_LIMIT, MASTER_LIMIT)
    means = running(state, graph, done.batches)
    return State(master.astype(np.int32), momentum.astype(np.int32), means.astype(np.int32), state.step + 1)


def _decayed(momentum: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(momentum) * (7 * np.abs(momentum) // 8))


def run_segment(graph: Graph, dataset: Dataset, recipe: Recipe, seed: bytes, state: State) -> State:
    """The state one segment later."""
    for _ in range(recipe.segment_steps):
        state = train_step(graph, dataset, recipe, seed, state)
    return state


def evaluate(graph: Graph, model: Model, samples: np.ndarray, labels: np.ndarray) -> int:
    """Number of samples whose true class has a logit strictly greater than every other."""
    correct = 0
    for sample, label in zip(samples, labels.astype(np.int64), strict=True):
        logits = forward(graph, sample[None], model).ravel()
        correct += bool(logits[label] > np.delete(logits, label).max())
    return correct
