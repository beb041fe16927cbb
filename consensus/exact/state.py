"""The whole state of a training run: master weights, momentum, running means, step; canonical bytes and hash."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from math import isqrt

import numpy as np

from consensus.exact.recipe import MASTER_BITS, MASTER_LIMIT, MOMENTUM_LIMIT, RUNNING_LIMIT
from consensus.exact.streams import uniform16
from consensus.spaces.graph import Graph

HEADER = struct.Struct("<4sIII")
MAGIC = b"PNS2"


class BadState(ValueError):
    """The bytes are no training state of the graph. The message is one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """`weights`, `momentum`: int32, all layers one after another in node order, each row-major. `step`: steps done.

    `running`: int32; for each layer but the last, in node order, the means of its channels and then the means of their
    positive parts, over the batches before, all times 2^8.
    """

    weights: np.ndarray
    momentum: np.ndarray
    running: np.ndarray
    step: int

    def encode(self) -> bytes:
        """Canonical bytes: magic, step, number of weights, number of running means, the arrays; little endian."""
        header = HEADER.pack(MAGIC, self.step, len(self.weights), len(self.running))
        return header + b"".join(part.astype("<i4").tobytes() for part in (self.weights, self.momentum, self.running))

    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.encode()).digest()


def running_count(graph: Graph) -> int:
    """Length of `State.running`."""
    return 2 * sum(columns for _, columns in list(graph.weight_shapes.values())[:-1])


def state_bytes(graph: Graph) -> int:
    """Length of an encoded state of the graph."""
    return HEADER.size + 8 * graph.cost.parameters + 4 * running_count(graph)


def decode_state(data: bytes, graph: Graph) -> State:
    """The state of canonical bytes. Size first, then every value's range. Raises `BadState`."""
    if len(data) != state_bytes(graph):
        raise BadState(f"A state of this network has {state_bytes(graph)} bytes, not {len(data)}.")
    magic, step, count, means = HEADER.unpack_from(data)
    if magic != MAGIC or count != graph.cost.parameters or means != running_count(graph) or step > 1 << 20:
        raise BadState("The header is not that of a training state of this network.")
    values = np.frombuffer(data, "<i4", -1, HEADER.size).astype(np.int32)
    parts = np.split(values, [count, 2 * count])
    limits = (("master weight", MASTER_LIMIT), ("momentum", MOMENTUM_LIMIT), ("running mean", RUNNING_LIMIT))
    for part, (name, limit) in zip(parts, limits, strict=True):
        if part.size and (part.max() > limit or part.min() < -limit):
            raise BadState(f"A {name} is beyond {limit}.")
    return State(parts[0], parts[1], parts[2], step)


def initial_range(fan_in: int, relu: bool) -> tuple[int, int]:
    """(limit, exponent): initial weights are uniform in +-limit * 2^exponent, 2^14 < limit <= 2^15.

    The range is sqrt(6 / fan in) before a ReLU (He et al., arXiv 1502.01852) and sqrt(3 / fan in) otherwise.
    """
    numerator, exponent = (6 if relu else 3), 0
    while isqrt((numerator << (2 * (exponent + 1))) // fan_in) <= 1 << MASTER_BITS:
        exponent += 1
    return isqrt((numerator << (2 * exponent)) // fan_in), -exponent


def layer_exponents(graph: Graph) -> dict[int, int]:
    """The power of two by which the master weights of each layer count, by node index."""
    shapes = graph.weight_shapes
    return {index: initial_range(shape[0], graph.nodes[index].relu)[1] for index, shape in shapes.items()}


def initial_state(graph: Graph, seed: bytes, device: str = "cpu") -> State:
    """The state before the first step, a pure function of graph and seed (`device` is of no consequence)."""
    parts = []
    for index, (rows, columns) in graph.weight_shapes.items():
        limit, _ = initial_range(rows, graph.nodes[index].relu)
        parts.append(uniform16(seed, b"weights" + index.to_bytes(4, "big"), rows * columns, limit))
    weights = np.concatenate(parts).astype(np.int32)
    return State(weights, np.zeros_like(weights), np.zeros(running_count(graph), dtype=np.int32), 0)
