"""The definition of exact training and evaluation, in plain int64 arithmetic of NumPy. Slow and plain on purpose.

A tensor is int64 values of magnitude at most 127 and an exponent: value * 2^exponent. Arrays are NHWC. In evaluation
every sample is computed alone, as a batch of one; so it has exponents of its own.
Source: protocol, section 1; the recipe follows NITI (arXiv 2009.13108) with the changes told in docs/exact-training.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from consensus.datasets import Dataset
from consensus.exact import streams
from consensus.exact.model import Model, quantise
from consensus.exact.recipe import (
    EXP_TABLE,
    GRADIENT_BITS,
    LOGIT_BITS,
    MASTER_LIMIT,
    PROBABILITY_BITS,
    Recipe,
)
from consensus.exact.state import State
from consensus.spaces.graph import Graph, Node

MAX_ALIGN = 15


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


def requantise(raw: Scaled, relu: bool) -> Scaled:
    """To 7 bits and a sign: shifted right by the bits beyond 7, halves to even, at most 127."""
    values = np.maximum(raw.values, 0) if relu else raw.values
    shift = max(0, bits(values) - 7)
    return Scaled(np.clip(shift_nearest(values, shift), -127, 127), raw.exponent + shift)


def requantise_dithered(raw: Scaled, dither: np.ndarray) -> Scaled:
    """Like `requantise`, but floor(value / 2^shift + dither / 256): right on average, so that small values survive."""
    shift = max(0, bits(raw.values) - 7)
    scaled = (raw.values * 256 + (dither.reshape(raw.values.shape) << shift)) >> (shift + 8)
    return Scaled(np.clip(scaled, -127, 127), raw.exponent + shift)


def align_add(one: Scaled, two: Scaled) -> Scaled:
    """Sum in units of the finer exponent, but at most 15 bits below the coarser; what is finer is rounded down."""
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


def forward(graph: Graph, samples: np.ndarray, exponent: int, model: Model) -> list[Scaled]:
    """Every node's output; the last one, the logits, keeps its full sums."""
    weights = dict(zip(graph.weight_shapes, zip(model.weights, model.exponents, strict=True), strict=True))
    done = [requantise(Scaled(samples.astype(np.int64), exponent), relu=False)]
    for index, node in enumerate(graph.nodes[1:], start=1):
        before = done[node.inputs[0]]
        if node.kind in ("conv", "depthwise"):
            layer, scale = weights[index]
            raw = Scaled(linear(before.values, layer.astype(np.int64), node), before.exponent + scale)
        elif node.kind == "add":
            raw = align_add(before, done[node.inputs[1]])
        else:
            raw = Scaled(pool(before.values, node), before.exponent)
        out = raw if index == len(graph.nodes) - 1 else requantise(raw, node.relu)
        done.append(Scaled(out.values, out.exponent + node.gain))
    return done


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


def backward(
    graph: Graph, done: list[Scaled], model: Model, loss: np.ndarray, table: np.ndarray, start: int
) -> dict[int, np.ndarray]:
    """Weight gradients by node, scaled so that the largest of a layer has 12 bits.

    `table` and `start`: thresholds of rounding. Input k of node n rounds at place of use 2 n + k; where a gradient
    meets one that is already there, the sum rounds at 2 N + 2 n + k of N nodes; the loss gradient rounds at 4 N.
    """
    weights = dict(zip(graph.weight_shapes, zip(model.weights, model.exponents, strict=True), strict=True))
    count = len(graph.nodes)

    def rounded(raw: Scaled, site: int) -> Scaled:
        places = start + streams.SITE_STRIDE * site + np.arange(raw.values.size)
        return requantise_dithered(raw, table[places % streams.DITHER_PERIOD])

    gradients = {count - 1: rounded(Scaled(loss, 0), 4 * count)}
    layers = {}
    for index in range(count - 1, 0, -1):
        node, gradient = graph.nodes[index], gradients[index]
        if index in weights:
            raw = linear_weight_gradient(done[node.inputs[0]].values, gradient.values, node)
            layers[index] = shift_nearest(raw, bits(raw) - GRADIENT_BITS)
        for slot, source in enumerate(node.inputs):
            before = done[source].values
            if index in weights:
                layer, scale = weights[index]
                share = linear_input_gradient(gradient.values, layer.astype(np.int64), node, before)
            elif node.kind == "add":
                share, scale = gradient.values, 0
            else:
                share, scale = pool_gradient(gradient.values, before, done[index].values, node), 0
            if graph.nodes[source].relu:
                share = share * (before > 0)
            back = rounded(Scaled(share, gradient.exponent + node.gain + scale), 2 * index + slot)
            if source in gradients:
                back = rounded(align_add(gradients[source], back), 2 * count + 2 * index + slot)
            gradients[source] = back
    return layers


def train_step(graph: Graph, dataset: Dataset, recipe: Recipe, seed: bytes, state: State) -> State:
    """One step: a batch forward and backward, then momentum and a step of constant size against its sign."""
    train = dataset.train
    chosen = streams.batch_indices(seed, len(train), recipe.batch, state.step)
    scale = -bits(train.samples.astype(np.int64))
    model = quantise(state, graph)
    done = forward(graph, train.samples[chosen], scale, model)
    loss = loss_gradient(done[-1], train.labels[chosen].astype(np.int64))
    start = streams.dither_start(seed, state.step)
    layers = backward(graph, done, model, loss, streams.dither_table(seed), start)
    gradient = np.concatenate([layers[index].ravel() for index in graph.weight_shapes])
    old = state.momentum.astype(np.int64)
    momentum = np.sign(old) * (7 * np.abs(old) // 8) + gradient
    weights = state.weights.astype(np.int64) - recipe.rate(state.step) * np.sign(momentum)
    weights = np.clip(weights, -MASTER_LIMIT, MASTER_LIMIT)
    return State(weights.astype(np.int32), momentum.astype(np.int32), state.step + 1)


def run_segment(graph: Graph, dataset: Dataset, recipe: Recipe, seed: bytes, state: State) -> State:
    """The state one segment later."""
    for _ in range(recipe.segment_steps):
        state = train_step(graph, dataset, recipe, seed, state)
    return state


def evaluate(graph: Graph, model: Model, samples: np.ndarray, labels: np.ndarray) -> int:
    """Number of samples whose true class has a logit strictly greater than every other."""
    correct = 0
    for sample, label in zip(samples, labels.astype(np.int64), strict=True):
        logits = forward(graph, sample[None], 0, model)[-1].values.ravel()
        correct += bool(logits[label] > np.delete(logits, label).max())
    return correct
