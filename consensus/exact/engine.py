"""One network on one device: forward, backward and the step of training, from the operations of `fast`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from consensus.exact import fast
from consensus.exact.fast import Exponent
from consensus.exact.model import Model
from consensus.exact.recipe import EXP_TABLE, LOGIT_BITS, MASTER_LIMIT, PROBABILITY_BITS
from consensus.exact.state import layer_exponents
from consensus.exact.streams import DITHER_PERIOD, SITE_STRIDE
from consensus.spaces.graph import Graph

Weights = dict[int, tuple[Tensor, Exponent]]
"""By node index: int8 weights of `Graph.weight_shape`, and their exponent."""


def torch_device(name: str) -> tuple[torch.device, torch.dtype]:
    """Device and number type of a device name. `cpu64` is the CPU in float64, for a CPU whose float32 is inexact."""
    if name == "cpu64":
        return torch.device("cpu"), torch.float64
    return torch.device(name), torch.float32


class Activations:
    """What a forward pass leaves: every node's tensor and exponent, and the gathered windows of the convolutions."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.exponents: list[Exponent] = []
        self.columns: dict[int, Tensor] = {}


class Engine:
    """Computes one graph. Holds no state of a training run; methods are pure but for the tensors named as updated.

    `lazy`: exponents stay on the device (see `fast`); by default on accelerators only.
    """

    def __init__(self, graph: Graph, device: str, lazy: bool | None = None) -> None:
        self.graph = graph
        self.device, self.dtype = torch_device(device)
        self.lazy = self.device.type != "cpu" if lazy is None else lazy
        self._exponents: dict[int, Tensor] = {}
        self.shapes = graph.weight_shapes
        self.sites = 2 * len(graph.nodes)
        self.layers = {index: self.exponent(exponent) for index, exponent in layer_exponents(graph).items()}
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

    def load(self, model: Model) -> Weights:
        """The weights of a model on the device."""
        parts = zip(self.shapes, model.weights, model.exponents, strict=True)
        return {index: (self.tensor(layer), self.exponent(exponent)) for index, layer, exponent in parts}

    def quantise(self, master: Tensor) -> Weights:
        """The int8 weights of flat master weights; see `model.quantise`."""
        weights, position = {}, 0
        for index, (rows, columns) in self.shapes.items():
            layer = master[position : position + rows * columns].view(rows, columns).clone()
            weights[index] = fast.requantise(layer, self.layers[index], relu=False)
            position += rows * columns
        return weights

    def forward(self, samples: Tensor, exponent: int, weights: Weights, per_sample: bool) -> Activations:
        """Float samples (batch, height, width, channels) through the network; the last node keeps its full sums.

        `per_sample`: an exponent for each sample, as evaluation has it; nothing is kept for `backward`.
        """
        done, keep = Activations(), not per_sample
        value, power = fast.requantise(samples, self.exponent(exponent), False, per_sample)
        done.values.append(value)
        done.exponents.append(power)
        last = len(self.graph.nodes) - 1
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            source = node.inputs[0]
            value, power = done.values[source], done.exponents[source]
            if node.kind == "conv":
                layer, scale = weights[index]
                columns = fast.gather(value, node)
                if keep:
                    done.columns[index] = columns
                value, power = fast.conv(columns, layer, node), power + scale
            elif node.kind == "depthwise":
                layer, scale = weights[index]
                value, power = fast.depthwise(value, layer, node), power + scale
            elif node.kind == "add":
                other = node.inputs[1]
                value, power = fast.align_add(value, power, done.values[other], done.exponents[other])
            else:
                value = fast.pool(value, node)
            if index != last:
                value, power = fast.requantise(value, power, node.relu, per_sample)
            done.values.append(value)
            done.exponents.append(power + node.gain if node.gain else power)
        return done

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
        last = len(nodes) - 1
        gradients = {last: fast.requantise_dithered(loss, self.exponent(0), dither.take(2 * self.sites, loss))}
        layers: dict[int, Tensor] = {}
        for index in range(last, 0, -1):
            node = nodes[index]
            gradient, power = gradients.pop(index)
            if index in weights:
                layers[index] = self._weight_gradient(done, index, gradient, power)
            for slot, source in enumerate(node.inputs):
                if source == 0:
                    continue
                share, scale = self._input_gradient(done, weights, index, source, gradient, power)
                if nodes[source].relu:
                    share = share * (done.values[source] > 0)
                if index in weights or node.overlaps:  # others hand on 8-bit gradients, which rounding leaves alone
                    share, scale = fast.requantise_dithered(share, scale, dither.take(2 * index + slot, share))
                if source in gradients:
                    share, scale = fast.align_add(*gradients[source], share, scale)
                    site = self.sites + 2 * index + slot
                    share, scale = fast.requantise_dithered(share, scale, dither.take(site, share))
                gradients[source] = share, scale
        return torch.cat([layers[index].reshape(-1) for index in self.shapes])

    def _weight_gradient(self, done: Activations, index: int, gradient: Tensor, power: Exponent) -> Tensor:
        node = self.graph.nodes[index]
        if node.kind == "conv":
            raw = fast.conv_weight_gradient(done.columns[index], gradient)
        else:
            raw = fast.depthwise_weight_gradient(done.values[node.inputs[0]], gradient, node)
        return fast.scale_gradient(raw, self.dtype, power)

    def _input_gradient(
        self, done: Activations, weights: Weights, index: int, source: int, gradient: Tensor, power: Exponent
    ) -> tuple[Tensor, Exponent]:
        """What node `index` sends back to node `source`, as full sums; a new tensor, or `gradient` itself."""
        node, before = self.graph.nodes[index], done.values[source]
        power = power + node.gain
        if node.kind == "conv":
            layer, scale = weights[index]
            return fast.conv_input_gradient(gradient, layer, node, before.shape), power + scale
        if node.kind == "depthwise":
            layer, scale = weights[index]
            return fast.depthwise_input_gradient(gradient, layer, node, before.shape), power + scale
        if node.kind == "add":
            return gradient, power
        return fast.pool_gradient(gradient, before, done.values[index], node), power

    def update(self, master: Tensor, momentum: Tensor, gradient: Tensor, rate: int) -> None:
        """Momentum becomes trunc(7/8 momentum) + gradient; each weight moves by `rate` against its momentum's sign."""
        momentum.mul_(0.875).trunc_().add_(gradient)
        master.sub_(momentum.sign().mul_(rate)).clamp_(-MASTER_LIMIT, MASTER_LIMIT)


class Dither:
    """The rounding thresholds of one step: a place in the seed's table, and from there a place for each use."""

    def __init__(self, table: Tensor, start: int) -> None:
        self.table = table
        self.start = start

    def take(self, site: int, like: Tensor) -> Tensor:
        """Thresholds in [0, 1) for the elements of `like` at place of use `site`; flat."""
        place = (self.start + SITE_STRIDE * site) % DITHER_PERIOD
        return self.table[place : place + like.numel()]
