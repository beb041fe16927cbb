"""One network in training on one device: forward, backward and the step, from the operations of `fast`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from consensus.exact import fast, normal
from consensus.exact.fast import Exponent
from consensus.exact.model import target
from consensus.exact.plan import plan
from consensus.exact.products import int8_is_exact
from consensus.exact.recipe import (
    BACK_SHIFT,
    EXP_TABLE,
    LOGIT_BITS,
    MASTER_LIMIT,
    MEET_BITS,
    NORMAL_GRADIENT_BITS,
    PART_BITS,
    PROBABILITY_BITS,
    RUNNING_SHIFT,
    SCALE_BITS,
)
from consensus.exact.state import layer_exponents
from consensus.exact.streams import DITHER_PERIOD, SITE_STRIDE
from consensus.spaces.graph import Graph

Weights = dict[int, tuple[Tensor, Exponent]]
"""By node index: int8 weights of `Graph.weight_shape`, and their exponent (which counts for the last layer only)."""


def torch_device(name: str) -> tuple[torch.device, torch.dtype]:
    """Device and number type of a device name. `cpu64` is the CPU in float64, for a CPU whose float32 is inexact."""
    if name == "cpu64":
        return torch.device("cpu"), torch.float64
    return torch.device(name), torch.float32


class Activations:
    """What a forward pass leaves: every node's tensor, the gathered windows of convolutions, and by normalised node its
    scales (float64), means and mean positive parts."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.columns: dict[int, Tensor] = {}
        self.scales: dict[int, Tensor] = {}
        self.found: list[Tensor] = []


class Engine:
    """Computes one graph. Holds no state of a training run; methods are pure but for the tensors named as updated.

    `lazy`: exponents of gradients stay on the device (see `fast`); by default on accelerators only. `int8`: products of
    int8 instead of float32; by default on a CPU where they are exact.
    """

    def __init__(self, graph: Graph, device: str, lazy: bool | None = None, *, int8: bool | None = None) -> None:
        self.graph = graph
        self.plan = plan(graph)
        self.device, self.dtype = torch_device(device)
        self.lazy = self.device.type != "cpu" if lazy is None else lazy
        self.int8 = device == "cpu" and int8_is_exact() if int8 is None else int8
        self._exponents: dict[int, Tensor] = {}
        self.shapes = graph.weight_shapes
        self.last = len(graph.nodes) - 1
        self.targets = {index: target(graph, index) for index in self.plan.shifts}
        self.logit_base = self.plan.exponents[graph.nodes[-1].inputs[0]] + graph.nodes[-1].gain
        self.exp_table = torch.tensor(EXP_TABLE, device=self.device)

    def exponent(self, value: int) -> Exponent:
        """An exponent in the form that this engine computes with. Kept, because a copy to a device waits for it."""
        if not self.lazy:
            return value
        if value not in self._exponents:
            self._exponents[value] = torch.tensor(value, dtype=torch.int32, device=self.device)
        return self._exponents[value]

    def tensor(self, values: np.ndarray) -> Tensor:
        """Integers as a float tensor of the device."""
        return torch.from_numpy(np.array(values, order="C")).to(self.device).to(self.dtype)

    def quantise(self, master: Tensor) -> Weights:
        """The int8 weights of flat master weights, as `model.training_weights`. Exponents count for the last layer."""
        weights, position = {}, 0
        base = self.exponent(layer_exponents(self.graph)[self.last])
        for index, (rows, columns) in self.shapes.items():
            layer = master[position : position + rows * columns].view(rows, columns)
            weights[index] = fast.requantise(layer, base)
            position += rows * columns
        return weights

    def forward(self, samples: Tensor, weights: Weights) -> Activations:
        """Float samples (batch, height, width, channels) through the network; the last node keeps its full sums."""
        done = Activations()
        done.values.append((samples * 0.5).round_().clamp_(-127, 127) if self.plan.halved else samples)
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            before = done.values[node.inputs[0]]
            if index in self.shapes:
                value = self._linear(done, index, before, weights[index][0])
            elif node.kind == "add":
                left, right = (done.values[source] for source in node.inputs)
                exponents = [self.plan.exponents[source] - self.plan.exponents[index] for source in node.inputs]
                value = fast.add(left, right, exponents[0], exponents[1], node)
            else:
                value = fast.averaged(fast.pool(before, node), node, self.plan.means.get(index))
            done.values.append(value)
        return done

    def _linear(self, done: Activations, index: int, before: Tensor, layer: Tensor) -> Tensor:
        node, shift = self.graph.nodes[index], self.plan.shifts.get(index, 0)
        small = self._small(index)
        if shift and not small:
            layer = layer * 2.0**-shift  # a power of two: the products only have their point elsewhere
        if node.kind == "conv":
            done.columns[index] = columns = fast.gather(before.to(torch.int8) if small else before, node)
            sums = fast.conv(columns, layer.to(torch.int8) if small else layer, node)
            if shift and small:
                sums.mul_(2.0**-shift)
        else:
            sums = fast.depthwise(before, layer, node)
        if index == self.last:
            return sums
        if shift:
            sums.round_()
        value, done.scales[index], *found = normal.normalise(sums, node.relu, self.targets[index])
        done.found += found
        return value

    def _small(self, index: int) -> bool:
        """Whether the products of a layer are those of int8."""
        node = self.graph.nodes[index]
        return self.int8 and node.kind == "conv" and self.plan.limits[node.inputs[0]] <= 127

    def loss_gradient(self, logits: Tensor, exponent: Exponent, labels: Tensor) -> Tensor:
        """Softmax minus one-hot in multiples of 2^-14, in the shape of `logits`. `labels`: int64 (batch, 1)."""
        flat = logits.view(logits.shape[0], -1)
        below = (flat.amax(dim=1, keepdim=True).double() - flat.double()).mul_(
            fast.power(exponent + LOGIT_BITS, torch.float64)
        )
        weight = self.exp_table[below.floor_().clamp_(max=255).long()]
        total = weight.sum(dim=1, keepdim=True)
        share = torch.div(weight << PROBABILITY_BITS, total, rounding_mode="floor")
        share.scatter_add_(1, labels, torch.full_like(labels, -(1 << PROBABILITY_BITS)))
        return share.to(self.dtype).view_as(logits)

    def backward(self, done: Activations, weights: Weights, loss: Tensor, dither: Dither) -> Tensor:
        """Flat weight gradient of 12 bits a layer, given the gradient of the logits (which is overwritten)."""
        nodes = self.graph.nodes
        arrived = {self.last: (loss, self.exponent(0))}
        layers: dict[int, Tensor] = {}
        for index in range(self.last, 0, -1):
            node, values = nodes[index], done.values[index]
            gradient, power = arrived.pop(index)
            if index == self.last:
                gradient, power = fast.requantise_dithered(gradient, power, dither.take(len(nodes), gradient))
            elif index in self.shapes:
                gradient, power = fast.to_bits(gradient, power, NORMAL_GRADIENT_BITS)
                place = dither.take(index, gradient)
                gradient = normal.gradient(gradient, values, node.relu, self.targets[index], place)
                power = power + BACK_SHIFT
            elif node.relu:
                gradient = torch.ops.aten.threshold_backward(gradient, values, 0)
            if node.overlaps:
                gradient, power = fast.to_bits(gradient, power, MEET_BITS)
            if index in self.shapes:
                layers[index] = self._weight_gradient(done, index, gradient, power)
            for source in node.inputs:
                if source == 0:
                    continue
                share, scale = self._input_gradient(done, weights, index, source, gradient)
                back = share, power + scale
                arrived[source] = fast.meet(*arrived[source], *back) if source in arrived else back
        return torch.cat([layers[index].reshape(-1) for index in self.shapes])

    def _weight_gradient(self, done: Activations, index: int, gradient: Tensor, like: Exponent) -> Tensor:
        node = self.graph.nodes[index]
        if node.kind == "conv":
            columns = done.columns.pop(index)
            raw = fast.conv_weight_gradient(columns, gradient.to(columns.dtype), self.plan.limits[node.inputs[0]])
        else:
            raw = fast.depthwise_weight_gradient(done.values[node.inputs[0]], gradient, node)
        return fast.scale_gradient(raw, self.dtype, like)

    def _input_gradient(
        self, done: Activations, weights: Weights, index: int, source: int, gradient: Tensor
    ) -> tuple[Tensor, Exponent]:
        """What node `index` sends back to node `source`, and its exponent less that of `gradient`.

        A new tensor, or `gradient` itself.
        """
        node, before = self.graph.nodes[index], done.values[source]
        scale: Exponent = self.plan.exponents[source] - self.plan.exponents[index]
        if index in self.shapes:
            layer, scale = weights[index][0], 0
            if index != self.last:
                scaled = layer * done.scales[index].to(self.dtype)
                layer, scale = fast.requantise(
                    scaled.mul_(2.0**SCALE_BITS), self.exponent(-SCALE_BITS - self.plan.shifts[index])
                )
            if node.kind == "depthwise":
                return fast.depthwise_input_gradient(gradient, layer, node, before.shape), scale
            if self.int8:
                gradient, layer = gradient.to(torch.int8), layer.to(torch.int8)
            return fast.conv_input_gradient(gradient, layer, node, before.shape), scale
        if node.kind == "add":
            return gradient, scale
        if node.kind == "sum_pool":
            scale = scale + 1 - (node.kernel[0] * node.kernel[1]).bit_length()
        return fast.pool_gradient(gradient, before, done.values[index], node), scale

    def update(self, master: Tensor, momentum: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """Momentum becomes trunc(7/8 momentum) + gradient; weights move by `rate` against the sign it has ahead."""
        momentum.mul_(0.875).trunc_().add_(gradient)
        ahead = momentum.mul(0.875).trunc_().add_(gradient)
        master.sub_(ahead.sign_().mul_(rate)).clamp_(-MASTER_LIMIT, MASTER_LIMIT)

    def update_running(self, running: Tensor, done: Activations, first: bool) -> None:
        """Running means (float64, units of 2^-8) move to those of the batch; at the `first` step they become them."""
        if not done.found:
            return
        new = [part if place % 2 else part * (1 << PART_BITS) for place, part in enumerate(done.found)]
        change = torch.cat(new).sub_(running)
        running.add_(change if first else change.mul_(2.0**-RUNNING_SHIFT).add_(0.5).floor_())


class Dither:
    """The rounding thresholds of a step: the seed's table from the step's place on, and there a place for each use."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def take(self, site: int, like: Tensor) -> Tensor:
        """Thresholds in [0, 1) for the elements of `like` at place of use `site`; flat."""
        place = SITE_STRIDE * site % DITHER_PERIOD
        return self.table[place : place + like.numel()]
