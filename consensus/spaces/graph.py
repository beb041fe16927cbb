"""Networks as plain data: nodes in topological order, and the checks that keep every sum of a network exact.

Tensors are NHWC. A node computes, in integers:

- `conv`: a matrix product over the window; weights have shape (kh * kw * channels in, channels out).
- `depthwise`: one filter per channel; weights have shape (kh * kw, channels).
- `sum_pool`, `max_pool`: over the window. A sum is divided by the number of the window's pixels. Windows lie side by
  side, but those of sums may overlap. A sum over one pixel is the identity: with `relu`, a rectifier.
- `add`: of two inputs of one shape.
- `input`: node 0, the samples.

`conv` and `depthwise`, but for the last node, are normalised per channel, to a scale times 2^`gain`. Then, if `relu`,
negative values become 0. See `consensus.exact.plan` for the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from consensus.spaces.base import Cost, InputShape, InvalidGenotype

Kind = Literal["input", "conv", "depthwise", "sum_pool", "max_pool", "add"]

EXACT = 1 << 24
"""Integers below this, and all partial sums of them in any order, are exact in float32."""
MAX_PRODUCTS = (EXACT - 1) // (127 * 127)
"""1040: the longest sum of products of two int8 values that stays below `EXACT` whatever the values are."""

MAX_PIXELS = 1 << 16
"""Windows of sums have at most so many pixels: the sum, and its product with a multiplier of 15 bits, stay exact."""
LOGIT_GAIN = -2
"""Logits count 2^-2 fold in the softmax, in units of the features; see docs/exact-training.md."""


class Node(NamedTuple):
    """One operation. `height`, `width`, `channels` describe its output; `pad` is the zero padding above and to the left
    (below and to the right there is as much as the output size asks for); `gain`: see the module."""

    kind: Kind
    inputs: tuple[int, ...]
    height: int
    width: int
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: int = 0
    relu: bool = False
    gain: int = 0

    @property
    def overlaps(self) -> bool:
        """Whether the windows of a pool overlap."""
        return self.kind == "sum_pool" and self.kernel != self.stride


@dataclass(frozen=True, slots=True)
class Graph:
    """A network: node 0 is the input, each node reads earlier ones, the last one is 1 x 1 x classes: the logits."""

    nodes: tuple[Node, ...]

    def weight_shape(self, index: int) -> tuple[int, int] | None:
        """Shape of the weights of a node, None if it has none."""
        node = self.nodes[index]
        taps = node.kernel[0] * node.kernel[1]
        if node.kind == "conv":
            return taps * self.nodes[node.inputs[0]].channels, node.channels
        return (taps, node.channels) if node.kind == "depthwise" else None

    @property
    def weight_shapes(self) -> dict[int, tuple[int, int]]:
        """Weight shapes by node index, in the order in which weights are stored."""
        shapes = {index: self.weight_shape(index) for index in range(len(self.nodes))}
        return {index: shape for index, shape in shapes.items() if shape is not None}

    @property
    def cost(self) -> Cost:
        """Parameters, and multiply-accumulates (for pools and sums: additions) per sample."""
        parameters = macs = 0
        for index, node in enumerate(self.nodes):
            pixels = node.height * node.width
            shape = self.weight_shape(index)
            if shape is not None:
                parameters += shape[0] * shape[1]
                macs += pixels * shape[0] * shape[1]
            elif node.kind != "input":
                macs += pixels * node.channels * node.kernel[0] * node.kernel[1]
        return Cost(parameters, macs)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.nodes[-1].channels


class GraphBuilder:
    """Adds nodes one by one. Methods return the new node's index and raise `InvalidGenotype` if it does not fit."""

    def __init__(self, shape: InputShape) -> None:
        if min(shape.height, shape.width, shape.channels) < 1 or shape.classes < 2:
            raise InvalidGenotype(f"An input of {shape} has no pixels, or no two classes to tell apart.")
        self.nodes: list[Node] = [Node("input", (), shape.height, shape.width, shape.channels)]

    def conv(self, source: int, channels: int, size: int, stride: int = 1, relu: bool = True, gain: int = 0) -> int:
        """Convolution with an odd square kernel, zero padded to keep the size (divided by `stride`, rounded up)."""
        before = self.nodes[source]
        overlap = -(-size // stride)
        self._bound(size * size * before.channels, "forward sum")
        self._bound(overlap * overlap * channels, "backward sum")
        return self._window("conv", source, channels, size, stride, relu, gain)

    def depthwise(self, source: int, size: int, stride: int = 1, relu: bool = False) -> int:
        """One odd square filter per channel, padded like `conv`."""
        self._bound(size * size, "forward sum")
        return self._window("depthwise", source, self.nodes[source].channels, size, stride, relu, 0)

    def pool(self, kind: Literal["sum_pool", "max_pool"], source: int, kernel: tuple[int, int]) -> int:
        """Windows side by side; a remainder at the right or bottom is left out. A sum is scaled to about the mean."""
        before = self.nodes[source]
        height, width = before.height // kernel[0], before.width // kernel[1]
        if height < 1 or width < 1:
            raise InvalidGenotype(f"A {before.height} x {before.width} map is too small to pool by {kernel}.")
        if kind == "sum_pool":
            self._check_mean(kernel)
        return self._append(Node(kind, (source,), height, width, before.channels, kernel, kernel))

    def quadrants(self, source: int) -> int:
        """Sums over the four quadrants, 2 x 2 out; the middle row and column of odd sizes go to the first half."""
        before = self.nodes[source]
        kernel = (-(-before.height // 2), -(-before.width // 2))
        height, width = min(2, before.height), min(2, before.width)
        self._check_mean(kernel)
        return self._append(Node("sum_pool", (source,), height, width, before.channels, kernel, kernel))

    def smooth(self, source: int, size: int) -> int:
        """About the mean of an odd square window around every pixel: zero padded, overlapping, of the same size."""
        self._check_mean((size, size))
        return self._window("sum_pool", source, self.nodes[source].channels, size, 1, False, 0)

    def rectify(self, source: int) -> int:
        """Negative values become 0."""
        before = self.nodes[source]
        return self._append(Node("sum_pool", (source,), before.height, before.width, before.channels, relu=True))

    def add(self, left: int, right: int, relu: bool = True) -> int:
        """The sum of two tensors of one shape."""
        one, two = self.nodes[left], self.nodes[right]
        if (one.height, one.width, one.channels) != (two.height, two.width, two.channels):
            raise InvalidGenotype("Only tensors of one shape can be added.")
        return self._append(Node("add", (left, right), one.height, one.width, one.channels, relu=relu))

    def dense(self, source: int, channels: int, relu: bool = False, gain: int = 0) -> int:
        """All pixels to `channels` values: a convolution whose kernel covers the whole map."""
        before = self.nodes[source]
        self._bound(before.height * before.width * before.channels, "forward sum")
        self._bound(channels, "backward sum")
        kernel = (before.height, before.width)
        return self._append(Node("conv", (source,), 1, 1, channels, kernel, relu=relu, gain=gain))

    def logits(self, source: int, classes: int) -> Graph:
        """The finished graph: a linear layer on all pixels of `source` gives one logit per class."""
        self.dense(source, classes, gain=LOGIT_GAIN)
        return Graph(tuple(self.nodes))

    def _window(self, kind: Kind, source: int, channels: int, size: int, stride: int, relu: bool, gain: int) -> int:
        before = self.nodes[source]
        if stride > 1 and max(before.height, before.width) == 1:
            raise InvalidGenotype("A map of one pixel cannot be made smaller.")
        height, width = -(-before.height // stride), -(-before.width // stride)
        node = Node(kind, (source,), height, width, channels, (size, size), (stride, stride), size // 2, relu, gain)
        return self._append(node)

    def _append(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    @staticmethod
    def _check_mean(kernel: tuple[int, int]) -> None:
        pixels = kernel[0] * kernel[1]
        if pixels > MAX_PIXELS:
            raise InvalidGenotype(f"A sum over {pixels} pixels could leave the exact range.")

    @staticmethod
    def _bound(products: int, what: str) -> None:
        if products > MAX_PRODUCTS:
            raise InvalidGenotype(f"A {what} of {products} products could leave the exact range of {MAX_PRODUCTS}.")
