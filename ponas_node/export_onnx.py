"""A trained model as an ONNX graph that gives the same integers as the exact evaluation, in any exact float32 runtime.

It follows `consensus.exact.reference.forward` and its plan node by node. Only operations are used that are exact on
integers below 2^24 held as float32: products with powers of two, sums and products within the bound, rounding of halves
to even, maxima, comparisons. Convolutions are matrix products of gathered windows, because a runtime's own convolution
may use an algorithm that rounds.

Input `samples` (batch, height, width, channels), uint8 or int8, as the data set has them. Outputs: `logits` (batch,
classes), float32 holding integers, and `prediction` (batch,), int64: the class whose logit is greater than every other,
-1 where two share the maximum (which counts as wrong).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from consensus.exact.model import Model
from consensus.exact.plan import plan
from consensus.spaces.graph import Graph, Node

OPSET, IR_VERSION = 17, 8
FLOAT, INT64 = 1, 7
"""ONNX's numbers of these types."""
KINDS = ("uint8", "int8")


class Writer:
    """Collects the operations and constants of an ONNX graph. Values are named as they are made."""

    def __init__(self) -> None:
        import onnx

        self._onnx: Any = onnx
        self.nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.initializers: list[Any] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add one operation; gives the name of its output."""
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any, kind: type[np.generic] = np.float32) -> str:
        """The name of a constant; equal ones are stored once. Raises ValueError if float32 does not hold it exactly."""
        wide = np.asarray(values)
        array = np.ascontiguousarray(wide.astype(kind)).reshape(wide.shape)
        if not np.array_equal(array.astype(wide.dtype), wide):
            raise ValueError("A constant of the network is not exact in float32.")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(self._onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A constant list of indices."""
        return self.constant(np.array(values, dtype=np.int64), np.int64)

    def times(self, value: str, factor: Any) -> str:
        """A product; nothing where the factor is 1."""
        return value if np.all(np.asarray(factor) == 1) else self.op("Mul", value, self.constant(factor))

    def bounded(self, value: str, low: int, high: int = 127) -> str:
        """Clamped to a range."""
        return self.op("Clip", value, self.constant(np.float32(low)), self.constant(np.float32(high)))


def to_onnx(graph: Graph, model: Model, sample_kind: str, metadata: dict[str, str]) -> bytes:
    """The ONNX file. `sample_kind`: "uint8" or "int8". Raises ValueError, and ImportError where onnx is missing."""
    import onnx
    from onnx import TensorProto, helper

    if sample_kind not in KINDS:
        raise ValueError(f"Samples are uint8 or int8, not {sample_kind}.")
    write, fixed = Writer(), plan(graph)
    first = write.op("Cast", "samples", to=FLOAT)
    if fixed.halved:
        first = write.bounded(write.op("Round", write.times(first, 0.5)), -127)
    values = [first]
    layers = dict(zip(graph.weight_shapes, model.layers, strict=True))
    for index, node in enumerate(graph.nodes[1:], start=1):
        if index in layers:
            value = _linear(write, graph, index, values, layers[index].weights)
            if index in fixed.shifts:
                value = write.op("Add", value, write.constant(layers[index].biases.astype(np.float64)))
                scaled = write.times(value, np.ldexp(1.0, -layers[index].shifts.astype(int)))
                value = write.bounded(write.op("Round", scaled), 0 if node.relu else -127)
        elif node.kind == "add":
            value = _add(write, node, values, fixed.exponents, fixed.exponents[index])
        else:
            value = _pool(write, graph, node, values)
            if node.kind == "sum_pool":
                multiplier, shift = fixed.means[index]
                factor = multiplier * 2.0**-shift
                value = value if factor == 1 else write.op("Round", write.times(value, factor))
            value = write.op("Relu", value) if node.relu else value
        values.append(value)
    _answer(write, values[-1], graph.classes)
    shape = graph.nodes[0]
    kind = TensorProto.UINT8 if sample_kind == "uint8" else TensorProto.INT8
    body = helper.make_graph(
        write.nodes,
        "ponas",
        [helper.make_tensor_value_info("samples", kind, ["batch", shape.height, shape.width, shape.channels])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", graph.classes]),
            helper.make_tensor_value_info("prediction", TensorProto.INT64, ["batch"]),
        ],
        write.initializers,
    )
    done = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ponas")
    done.ir_version = IR_VERSION
    helper.set_model_props(done, metadata)
    onnx.checker.check_model(done, full_check=True)
    return bytes(done.SerializeToString(deterministic=True))


def _linear(write: Writer, graph: Graph, index: int, values: list[str], layer: np.ndarray) -> str:
    """Sums of products: full sums, as in `reference.linear`."""
    node, source = graph.nodes[index], values[graph.nodes[index].inputs[0]]
    before = graph.nodes[node.inputs[0]]
    if node.kind == "conv":
        if node.kernel == (before.height, before.width) and node.pad == 0 and node.height == node.width == 1:
            seen = write.op("Reshape", source, write.ints(-1, 1, 1, len(layer)))
        else:
            seen = _concat(write, _taps(write, source, node, before))
        return write.op("MatMul", seen, write.op("Cast", write.constant(layer, np.int8), to=FLOAT))
    parts = [
        write.op("Mul", view, write.constant(one))
        for view, one in zip(_taps(write, source, node, before), layer, strict=True)
    ]
    return _sum(write, parts)


def _add(write: Writer, node: Node, values: list[str], exponents: Sequence[int], wanted: int) -> str:
    left, right = node.inputs
    finer = min(exponents[left], exponents[right])
    parts = [write.times(values[source], 2.0 ** (exponents[source] - finer)) for source in (left, right)]
    total = write.times(write.op("Add", *parts), 2.0 ** (finer - wanted))
    return write.bounded(write.op("Round", total), 0 if node.relu else -127)


def _pool(write: Writer, graph: Graph, node: Node, values: list[str]) -> str:
    """The sum or maximum over the window."""
    source, before = values[node.inputs[0]], graph.nodes[node.inputs[0]]
    if node.kernel == (1, 1) and node.stride == (1, 1):
        return source
    if node.kernel != node.stride or node.pad:
        return _sum(write, _taps(write, source, node, before))
    (high, wide), channels = node.kernel, before.channels
    fitted = _fit(write, source, node, before)
    tiles = write.op("Reshape", fitted, write.ints(-1, node.height, high, node.width, wide, channels))
    if node.kind == "max_pool":
        return write.op("ReduceMax", tiles, axes=[2, 4], keepdims=0)
    return write.op("ReduceSum", tiles, write.ints(2, 4), keepdims=0)


def _fit(write: Writer, source: str, node: Node, before: Node) -> str:
    """Padded with zeros to what the windows cover, and cropped to it."""
    rows = (node.height - 1) * node.stride[0] + node.kernel[0]
    columns = (node.width - 1) * node.stride[1] + node.kernel[1]
    below, right = rows - node.pad - before.height, columns - node.pad - before.width
    if node.pad or below > 0 or right > 0:
        ends = (0, node.pad, node.pad, 0, 0, max(0, below), max(0, right), 0)
        source = write.op("Pad", source, write.ints(*ends))
    if below < 0 or right < 0:
        source = write.op("Slice", source, write.ints(0, 0), write.ints(rows, columns), write.ints(1, 2))
    return source


def _taps(write: Writer, source: str, node: Node, before: Node) -> list[str]:
    """What the outputs see at each place of the window, row by row."""
    (high, wide), (down, right) = node.kernel, node.stride
    if (high, wide) == (down, right) == (1, 1):
        return [source]
    padded = _fit(write, source, node, before)
    return [
        write.op(
            "Slice",
            padded,
            write.ints(row, column),
            write.ints(row + (node.height - 1) * down + 1, column + (node.width - 1) * right + 1),
            write.ints(1, 2),
            write.ints(down, right),
        )
        for row in range(high)
        for column in range(wide)
    ]


def _concat(write: Writer, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else write.op("Concat", *parts, axis=3)


def _sum(write: Writer, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else write.op("Sum", *parts)


def _answer(write: Writer, last: str, classes: int) -> None:
    logits = write.op("Reshape", last, write.ints(-1, classes), name="logits")
    most = write.op("ReduceMax", logits, axes=[1], keepdims=1)
    ties = write.op("Cast", write.op("Equal", logits, most), to=INT64)
    count = write.op("ReduceSum", ties, write.ints(1), keepdims=0)
    alone = write.op("Equal", count, write.ints(1))
    best = write.op("ArgMax", logits, axis=1, keepdims=0)
    write.op("Where", alone, best, write.ints(-1), name="prediction")
