"""The trained model: int8 weights, biases and shifts by channel, in canonical bytes that are safe from a stranger."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chain.artifact import artifact_id
from consensus.exact.plan import plan
from consensus.exact.recipe import MAX_SHIFT, NORMAL_TARGET, PART_BITS, SCALE_BITS, SCALE_DIGITS
from consensus.exact.state import State, layer_exponents
from consensus.spaces.graph import EXACT, Graph

HEADER = struct.Struct("<4sIIb")
MAGIC = b"PNM3"
MIN_EXPONENT, MAX_EXPONENT = -64, 63

content_id = artifact_id


class BadModel(ValueError):
    """The bytes are no model of the graph, or one that could leave the exact range. The message is one sentence."""


class Layer(NamedTuple):
    """A layer in evaluation: (sum of products + `biases`) / 2^`shifts`, to the nearest integer, halves to even.

    `weights`: int8 in [-127, 127], of shape `Graph.weight_shape`. `biases` int32, `shifts` uint8, by channel; both zero
    in the last layer.
    """

    weights: np.ndarray
    biases: np.ndarray
    shifts: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`layers` in node order. `exponent`: a weight w of the last layer stands for w * 2^exponent. No prediction needs
    it, but probabilities do.
    """

    layers: tuple[Layer, ...]
    exponent: int

    def encode(self) -> bytes:
        """Canonical bytes: magic, number of layers, number of weights, exponent; by layer but the last, biases and
        shifts; then all weights, row-major."""
        header = HEADER.pack(MAGIC, len(self.layers), sum(layer.weights.size for layer in self.layers), self.exponent)
        parts = [part for layer in self.layers[:-1] for part in (layer.biases.astype("<i4"), layer.shifts)]
        return header + b"".join(part.tobytes() for part in (*parts, *(layer.weights for layer in self.layers)))


def model_bytes(graph: Graph) -> int:
    """Length of an encoded model of the graph."""
    channels = sum(columns for _, columns in list(graph.weight_shapes.values())[:-1])
    return HEADER.size + 5 * channels + graph.cost.parameters


def decode_model(data: bytes, graph: Graph) -> Model:
    """The model of canonical bytes. Size first, then range and the exact bound of every output. Raises `BadModel`."""
    shapes, limits = graph.weight_shapes, plan(graph).limits
    if len(data) != model_bytes(graph):
        raise BadModel(f"A model of this network has {model_bytes(graph)} bytes, not {len(data)}.")
    magic, count, parameters, exponent = HEADER.unpack_from(data)
    if magic != MAGIC or count != len(shapes) or parameters != graph.cost.parameters:
        raise BadModel("The header is not that of a model of this network.")
    if not MIN_EXPONENT <= exponent <= MAX_EXPONENT:
        raise BadModel(f"An exponent is not from {MIN_EXPONENT} to {MAX_EXPONENT}.")
    position, affine = HEADER.size, []
    for _, columns in list(shapes.values())[:-1]:
        biases = np.frombuffer(data, "<i4", columns, position).astype(np.int32)
        affine.append((biases, np.frombuffer(data, np.uint8, columns, position + 4 * columns)))
        position += 5 * columns
    affine.append(_none(graph.classes))
    layers = []
    for (index, (rows, columns)), (biases, shifts) in zip(shapes.items(), affine, strict=True):
        weights = np.frombuffer(data, np.int8, rows * columns, position).reshape(rows, columns)
        layers.append(Layer(weights, biases, shifts))
        _check(layers[-1], index, limits[graph.nodes[index].inputs[0]])
        position += rows * columns
    return Model(tuple(layers), exponent)


def training_weights(state: State, graph: Graph) -> tuple[dict[int, np.ndarray], int]:
    """The int8 weights that the state's master weights stand for in a training step, by node; and the exponent of the
    last layer's: a weight w there stands for w * 2^exponent.

    Per layer: shift right by the bits that the largest has beyond 7, rounding half to even, at most 127.
    """
    weights, position, exponent = {}, 0, 0
    for index, (rows, columns) in graph.weight_shapes.items():
        master = state.weights[position : position + rows * columns].astype(np.int64).reshape(rows, columns)
        position += rows * columns
        shift = max(0, int(np.abs(master).max()).bit_length() - 7)
        # Exact: float64 holds any master weight, a power of two only moves its exponent, rint rounds halves to even.
        weights[index] = np.clip(np.rint(master / float(1 << shift)), -127, 127).astype(np.int8)
        exponent = layer_exponents(graph)[index] + shift
    return weights, exponent


def quantise(state: State, graph: Graph) -> Model:
    """The model of a state: its int8 weights, with the normalisation by its running means folded into them."""
    weights, exponent = training_weights(state, graph)
    fixed, layers, start = plan(graph), [], 0
    for index, layer in weights.items():
        columns = layer.shape[1]
        if index not in fixed.shifts:
            layers.append(Layer(layer, *_none(columns)))
            continue
        mean, part = state.running[start : start + 2 * columns].astype(np.int64).reshape(2, columns)
        scales = channel_scales(part, target(graph, index))
        layers.append(fold(layer, mean, scales, fixed.shifts[index], fixed.limits[graph.nodes[index].inputs[0]]))
        start += 2 * columns
    return Model(tuple(layers), exponent)


def fold(weights: np.ndarray, mean: np.ndarray, scales: np.ndarray, shift: int, limit: int) -> Layer:
    """The layer that does about what int8 `weights` and a normalisation do: (sum / 2^shift - mean) times scale.

    `mean` in units of 2^-8, `scales` in units of 2^-24, `limit`: the largest magnitude of an input. Per channel,
    weights times scale are shifted right by the bits that the largest has beyond 7, halves to even, at most 127. What
    is left of the shift is that of the sum, kept from 0 to `MAX_SHIFT`. The bias is kept to where no sum can leave the
    exact range.
    """
    raw = weights.astype(np.int64) * scales
    beyond = np.array([int(value).bit_length() - 7 for value in np.abs(raw).max(axis=0)], dtype=np.int64)
    shifts = np.clip(shift + SCALE_BITS - beyond, 0, MAX_SHIFT)
    # Exact: products have less than 53 bits, and rint rounds halves to even.
    folded = np.clip(np.rint(np.ldexp(raw.astype(np.float64), shifts - shift - SCALE_BITS)), -127, 127)
    biases = np.rint(np.ldexp(-(mean * scales).astype(np.float64), shifts - PART_BITS - SCALE_BITS)).astype(np.int64)
    room = EXACT - 1 - limit * np.abs(folded).sum(axis=0).astype(np.int64)
    return Layer(folded.astype(np.int8), np.clip(biases, -room, room).astype(np.int32), shifts.astype(np.uint8))


def _none(channels: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(channels, dtype=np.int32), np.zeros(channels, dtype=np.uint8)


def target(graph: Graph, index: int) -> int:
    """The mean that normalisation gives the positive part of a layer's channels."""
    gain = graph.nodes[index].gain
    return NORMAL_TARGET << gain if gain >= 0 else max(1, NORMAL_TARGET >> -gain)


def channel_scales(part: np.ndarray, wanted: int) -> np.ndarray:
    """Scales in units of 2^-24 that bring mean positive parts (in units of 2^-8) to `wanted`: the quotient's first
    eight binary digits. int64; parts below 1 count as 1."""
    quotient = (wanted << (PART_BITS + SCALE_BITS)) // np.maximum(part.astype(np.int64), 1 << PART_BITS)
    low = np.array([int(value).bit_length() - SCALE_DIGITS for value in quotient], dtype=np.int64)
    return np.asarray((quotient >> low) << low)


def _check(layer: Layer, index: int, limit: int) -> None:
    wide = np.abs(layer.weights.astype(np.int64))
    if int(wide.max()) > 127:
        raise BadModel(f"A weight of node {index} is -128; weights are from -127 to 127.")
    if int(layer.shifts.max()) > MAX_SHIFT:
        raise BadModel(f"A shift of node {index} is more than {MAX_SHIFT}.")
    if int((limit * wide.sum(axis=0) + np.abs(layer.biases.astype(np.int64))).max()) >= EXACT:
        raise BadModel(f"An output of node {index} could leave the exact range: its weights or bias are too large.")
