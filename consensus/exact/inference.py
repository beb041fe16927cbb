"""A trained model on one device, ready to give logits.

Two ways to the same integers. Float: NHWC tensors and the operations of `fast`, on any device. Bytes: uint8 tensors and
the library's convolutions of bytes (`convolution`), on a CPU where they are exact; a layer whose inputs are of a kind
that they are not exact for goes the float way.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from consensus.exact import fast
from consensus.exact.convolution import ZERO, ByteConvolution, is_exact
from consensus.exact.engine import torch_device
from consensus.exact.model import Model
from consensus.exact.plan import plan
from consensus.spaces.graph import Graph


class Inference:
    """Decides per layer how it is computed. `signed`: whether the samples are int8. `batch`: how many come at a time;
    others are computed as well, but more slowly. `bytes`: whether to go the way of bytes; by default where it is exact.
    """

    def __init__(
        self, graph: Graph, model: Model, device: str, signed: bool, batch: int, *, bytes: bool | None = None
    ) -> None:
        self.graph, self.plan = graph, plan(graph)
        self.device, self.dtype = torch_device(device)
        use_bytes = device == "cpu" and is_exact("small", split=False) if bytes is None else bytes
        self.kinds = kinds(graph, signed) if use_bytes else [None] * len(graph.nodes)
        self.byte_layers: dict[int, ByteConvolution] = {}
        self.float_layers: dict[int, tuple[Tensor, Tensor]] = {}
        for index, layer in zip(graph.weight_shapes, model.layers, strict=True):
            node, before = graph.nodes[index], graph.nodes[graph.nodes[index].inputs[0]]
            kind, shape = self.kinds[node.inputs[0]], (batch, before.height, before.width, before.channels)
            split = node.kind == "conv" and kind is not None and not is_exact(kind, split=False)
            if kind is not None and self.kinds[index] is not None and is_exact(kind, split):
                self.byte_layers[index] = ByteConvolution(node, layer, kind, split, shape)
            else:  # a power of two: sums only have their point elsewhere
                scale = np.ldexp(1.0, -layer.shifts.astype(int))
                self.float_layers[index] = self._tensor(layer.weights * scale), self._tensor(layer.biases * scale)

    def logits(self, samples: np.ndarray) -> Tensor:
        """Full sums, integers as floats, (batch, classes). `samples`: (batch, height, width, channels)."""
        done = [self._enter(torch.tensor(samples).to(self.device))]
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            first = node.inputs[0]
            if index in self.byte_layers:
                value = self.byte_layers[index](done[first])
            elif index in self.float_layers:
                value = self._bytes(index, self._linear(index, self._floats(first, done[first])))
            elif node.kind == "max_pool":
                value = fast.pool(done[first], node)
            elif node.kind == "sum_pool":
                sums = fast.pool(self._floats(first, done[first]), node)
                value = self._bytes(index, fast.averaged(sums, node, self.plan.means[index]))
            else:
                value = self._add(index, done[first], done[node.inputs[1]])
            done.append(value)
        return done[-1].flatten(1)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.dtype).to(self.device)

    def _floats(self, index: int, value: Tensor) -> Tensor:
        """What node `index` gave, as floats: the same tensor if it is one of floats."""
        kind = self.kinds[index]
        if kind is None:
            return value
        return value.to(self.dtype).sub_(ZERO) if kind == "signed" else value.to(self.dtype)

    def _bytes(self, index: int, value: Tensor) -> Tensor:
        """Floats in the form in which node `index` gives them. May overwrite them."""
        kind = self.kinds[index]
        if kind is None:
            return value
        return (value.add_(ZERO) if kind == "signed" else value).to(torch.uint8)

    def _enter(self, samples: Tensor) -> Tensor:
        if self.plan.halved:
            return self._bytes(0, samples.to(self.dtype).mul_(0.5).round_().clamp_(-127, 127))
        if self.kinds[0] is None:
            return samples.to(self.dtype)
        return samples.view(torch.uint8).bitwise_xor(ZERO) if self.kinds[0] == "signed" else samples

    def _linear(self, index: int, before: Tensor) -> Tensor:
        node, (weights, biases) = self.graph.nodes[index], self.float_layers[index]
        if node.kind == "conv":
            sums = torch.addmm(biases, fast.gather(before, node), weights).view(
                -1, node.height, node.width, node.channels
            )
        else:
            sums = fast.depthwise(before, weights, node, biases)
        return sums.round_().clamp_(0 if node.relu else -127, 127) if index in self.plan.shifts else sums

    def _add(self, index: int, left: Tensor, right: Tensor) -> Tensor:
        node, exponents = self.graph.nodes[index], self.plan.exponents
        one, two = (exponents[source] - exponents[index] for source in node.inputs)
        if self.kinds[index] is None or one or two:
            left, right = (self._floats(i, value) for i, value in zip(node.inputs, (left, right), strict=True))
            return self._bytes(index, fast.add(left, right, one, two, node))
        zeros = [ZERO * (self.kinds[source] == "signed") for source in (*node.inputs, index)]
        total = left.to(torch.int16).add_(right.to(torch.int16)).add_(zeros[2] - zeros[0] - zeros[1])
        return total.clamp_(zeros[2] - (0 if node.relu else 127), zeros[2] + 127).to(torch.uint8)


def kinds(graph: Graph, signed: bool) -> list[str | None]:
    """By node, the kind of bytes that hold its values; None where bytes do not."""
    found: list[str | None] = []
    limits = plan(graph).limits
    for index, node in enumerate(graph.nodes):
        before = [found[source] for source in node.inputs]
        if index == 0:
            small = "small" if limits[0] <= 127 else "whole"
            found.append("signed" if signed else small)
        elif limits[index] > 127 or index == len(graph.nodes) - 1:
            found.append(None)
        elif node.relu or (index not in graph.weight_shapes and "signed" not in before):
            found.append("small")
        else:
            found.append("signed")
    return found
