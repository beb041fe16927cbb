"""The trained model: int8 weights and their exponents, in canonical bytes that are safe to take from a stranger."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from chain.artifact import artifact_id
from consensus.exact.state import State, layer_exponents
from consensus.spaces.graph import EXACT, Graph

HEADER = struct.Struct("<4sII")
MAGIC = b"PNM1"
MIN_EXPONENT, MAX_EXPONENT = -64, 63

content_id = artifact_id


class BadModel(ValueError):
    """The bytes are no model of the graph, or one that could leave the exact range. The message is one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`weights`: int8 in [-127, 127], one array per layer of shape `Graph.weight_shape`; `exponents`: one per layer.

    A weight w of a layer with exponent e stands for w * 2^e.
    """

    weights: tuple[np.ndarray, ...]
    exponents: tuple[int, ...]

    def encode(self) -> bytes:
        """Canonical bytes: magic, number of layers, number of weights, exponents, weights in row-major order."""
        header = HEADER.pack(MAGIC, len(self.weights), sum(layer.size for layer in self.weights))
        exponents = np.array(self.exponents, dtype=np.int8).tobytes()
        return b"".join([header, exponents, *(layer.tobytes() for layer in self.weights)])


def model_bytes(graph: Graph) -> int:
    """Length of an encoded model of the graph."""
    return HEADER.size + len(graph.weight_shapes) + graph.cost.parameters


def decode_model(data: bytes, graph: Graph) -> Model:
    """The model of canonical bytes. Size first, then range and the exact bound of every output. Raises `BadModel`."""
    shapes = graph.weight_shapes
    if len(data) != model_bytes(graph):
        raise BadModel(f"A model of this network has {model_bytes(graph)} bytes, not {len(data)}.")
    magic, layers, parameters = HEADER.unpack_from(data)
    if magic != MAGIC or layers != len(shapes) or parameters != graph.cost.parameters:
        raise BadModel("The header is not that of a model of this network.")
    exponents = tuple(int(value) for value in np.frombuffer(data, np.int8, layers, HEADER.size))
    if min(exponents) < MIN_EXPONENT or max(exponents) > MAX_EXPONENT:
        raise BadModel(f"An exponent is not from {MIN_EXPONENT} to {MAX_EXPONENT}.")
    weights, position = [], HEADER.size + layers
    for index, (rows, columns) in shapes.items():
        layer = np.frombuffer(data, np.int8, rows * columns, position).reshape(rows, columns)
        _check_layer(layer, index)
        weights.append(layer)
        position += rows * columns
    return Model(tuple(weights), exponents)


def quantise(state: State, graph: Graph) -> Model:
    """The int8 weights that the state's master weights stand for, as every training step uses them.

    Per layer: shift right by the bits that the largest has beyond 7, rounding half to even, at most 127.
    """
    exponents = layer_exponents(graph)
    weights, shifts, position = [], [], 0
    for index, (rows, columns) in graph.weight_shapes.items():
        master = state.weights[position : position + rows * columns].astype(np.int64).reshape(rows, columns)
        position += rows * columns
        shift = max(0, int(np.abs(master).max()).bit_length() - 7)
        # Exact: float64 holds any master weight, a power of two only moves its exponent, rint rounds halves to even.
        rounded = np.rint(master / float(1 << shift))
        weights.append(np.clip(rounded, -127, 127).astype(np.int8))
        shifts.append(exponents[index] + shift)
    return Model(tuple(weights), tuple(shifts))


def _check_layer(layer: np.ndarray, index: int) -> None:
    wide = np.abs(layer.astype(np.int64))
    if int(wide.max()) > 127:
        raise BadModel(f"A weight of node {index} is -128; weights are from -127 to 127.")
    if 127 * int(wide.sum(axis=0).max()) >= EXACT:
        raise BadModel(f"The weights of an output of node {index} are too large: its sum could leave the exact range.")
