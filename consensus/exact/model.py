"""The trained model: int8 weights and normalisations by channel, in canonical bytes that are safe from a stranger."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chain.artifact import artifact_id
from consensus.exact.plan import SUM_BITS, plan
from consensus.exact.recipe import NORMAL_TARGET, PART_BITS, SCALE_BITS, SCALE_DIGITS
from consensus.exact.state import State, layer_exponents
from consensus.spaces.graph import EXACT, Graph

HEADER = struct.Struct("<4sIIb")
MAGIC = b"PNM2"
MIN_EXPONENT, MAX_EXPONENT = -64, 63

content_id = artifact_id


class BadModel(ValueError):
    """The bytes are no model of the graph, or one that could leave the exact range. The message is one sentence."""


class Norm(NamedTuple):
    """A layer's normalisation by channel: sums less `means`, times `multipliers` / 2^`shifts`. int16, uint8, uint8."""

    means: np.ndarray
    multipliers: np.ndarray
    shifts: np.ndarray

    @property
    def scales(self) -> np.ndarray:
        """The multipliers in units of 2^-24, int64."""
        return self.multipliers.astype(np.int64) << (SCALE_BITS - self.shifts.astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`weights`: int8 in [-127, 127], one array per layer of shape `Graph.weight_shape`. `norms`: of all layers but the
    last. `exponent`: a weight w of the last layer stands for w * 2^exponent; training asks for it, evaluation does not.
    """

    weights: tuple[np.ndarray, ...]
    norms: tuple[Norm, ...]
    exponent: int

    def encode(self) -> bytes:
        """Canonical bytes: magic, number of layers, number of weights, exponent; by layer means, multipliers, shifts;
        then all weights, row-major."""
        header = HEADER.pack(MAGIC, len(self.weights), sum(layer.size for layer in self.weights), self.exponent)
        parts = [part for norm in self.norms for part in (norm.means.astype("<i2"), norm.multipliers, norm.shifts)]
        return header + b"".join(part.tobytes() for part in (*parts, *self.weights))


def model_bytes(graph: Graph) -> int:
    """Length of an encoded model of the graph."""
    channels = sum(columns for _, columns in list(graph.weight_shapes.values())[:-1])
    return HEADER.size + 4 * channels + graph.cost.parameters


def decode_model(data: bytes, graph: Graph) -> Model:
    """The model of canonical bytes. Size first, then range and the exact bound of every output. Raises `BadModel`."""
    shapes, limits = graph.weight_shapes, plan(graph).limits
    if len(data) != model_bytes(graph):
        raise BadModel(f"A model of this network has {model_bytes(graph)} bytes, not {len(data)}.")
    magic, layers, parameters, exponent = HEADER.unpack_from(data)
    if magic != MAGIC or layers != len(shapes) or parameters != graph.cost.parameters:
        raise BadModel("The header is not that of a model of this network.")
    if not MIN_EXPONENT <= exponent <= MAX_EXPONENT:
        raise BadModel(f"An exponent is not from {MIN_EXPONENT} to {MAX_EXPONENT}.")
    position, norms, weights = HEADER.size, [], []
    for _, columns in list(shapes.values())[:-1]:
        means = np.frombuffer(data, "<i2", columns, position).astype(np.int16)
        pairs = np.frombuffer(data, np.uint8, 2 * columns, position + 2 * columns)
        norms.append(_checked_norm(Norm(means, pairs[:columns], pairs[columns:])))
        position += 4 * columns
    for index, (rows, columns) in shapes.items():
        layer = np.frombuffer(data, np.int8, rows * columns, position).reshape(rows, columns)
        _check_layer(layer, index, limits[graph.nodes[index].inputs[0]])
        weights.append(layer)
        position += rows * columns
    return Model(tuple(weights), tuple(norms), exponent)


def quantise(state: State, graph: Graph) -> Model:
    """The int8 weights that the state's master weights stand for, as every training step uses them, and the
    normalisation by its running means.

    Weights, per layer: shift right by the bits that the largest has beyond 7, rounding half to even, at most 127.
    """
    shapes, last = graph.weight_shapes, len(graph.nodes) - 1
    weights, norms, position, start, exponent = [], [], 0, 0, 0
    for index, (rows, columns) in shapes.items():
        master = state.weights[position : position + rows * columns].astype(np.int64).reshape(rows, columns)
        position += rows * columns
        shift = max(0, int(np.abs(master).max()).bit_length() - 7)
        # Exact: float64 holds any master weight, a power of two only moves its exponent, rint rounds halves to even.
        rounded = np.rint(master / float(1 << shift))
        weights.append(np.clip(rounded, -127, 127).astype(np.int8))
        if index == last:
            exponent = layer_exponents(graph)[index] + shift
        else:
            mean, part = state.running[start : start + 2 * columns].astype(np.int64).reshape(2, columns)
            norms.append(running_norm(mean, part, target(graph, index)))
            start += 2 * columns
    return Model(tuple(weights), tuple(norms), exponent)


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


def running_norm(mean: np.ndarray, part: np.ndarray, wanted: int) -> Norm:
    """The normalisation by running means, in units of 2^-8."""
    scales = channel_scales(part, wanted)
    low = np.array([int(value).bit_length() - SCALE_DIGITS for value in scales], dtype=np.int64)
    means = (mean + (1 << (PART_BITS - 1))) >> PART_BITS
    return Norm(means.astype(np.int16), (scales >> low).astype(np.uint8), (SCALE_BITS - low).astype(np.uint8))


def _checked_norm(norm: Norm) -> Norm:
    if np.abs(norm.means.astype(np.int64)).max() > 1 << SUM_BITS:
        raise BadModel(f"A mean is beyond {1 << SUM_BITS}.")
    if norm.multipliers.min() < 1 << (SCALE_DIGITS - 1) or norm.shifts.max() > SCALE_BITS:
        raise BadModel("A scale is not a multiplier from 128 to 255 and a shift up to 24.")
    return norm


def _check_layer(layer: np.ndarray, index: int, limit: int) -> None:
    wide = np.abs(layer.astype(np.int64))
    if int(wide.max()) > 127:
        raise BadModel(f"A weight of node {index} is -128; weights are from -127 to 127.")
    if limit * int(wide.sum(axis=0).max()) >= EXACT:
        raise BadModel(f"The weights of an output of node {index} are too large: its sum could leave the exact range.")
