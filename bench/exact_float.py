"""The rival of exact training: the same graph in float32, as one would train it by hand.

Convolutions without bias, batch normalisation, ReLU; AdamW with a one-cycle schedule; eager PyTorch.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from consensus.datasets import Dataset, Split
from consensus.spaces import Graph

PEAK_RATE = 0.03
"""Best of 0.005, 0.015 and 0.03 on ten networks (docs/exact-training.md)."""


def clock(device: str) -> float:
    """Seconds: processor time on the CPU; otherwise by the clock on the wall, once the device has done its work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class FloatNet(nn.Module):
    """The network of a graph; every layer of weights but the last is followed by batch normalisation."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.layers, self.norms = graph, nn.ModuleDict(), nn.ModuleDict()
        last = len(graph.nodes) - 1
        for index in graph.weight_shapes:
            node, name = graph.nodes[index], str(index)
            before = graph.nodes[node.inputs[0]].channels
            groups = before if node.kind == "depthwise" else 1
            layer = nn.Conv2d(
                before, node.channels, node.kernel, node.stride, node.pad, groups=groups, bias=index == last
            )
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            self.layers[name] = layer
            if index != last:
                self.norms[name] = nn.BatchNorm2d(node.channels)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits (batch, classes) of samples (batch, channels, height, width)."""
        done = [samples]
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            value, name = done[node.inputs[0]], str(index)
            if name in self.layers:
                value = self.layers[name](value)
                value = self.norms[name](value) if name in self.norms else value
            elif node.kind == "add":
                value = value + done[node.inputs[1]]
            elif node.kind == "max_pool":
                value = functional.max_pool2d(value, node.kernel, node.stride)
            else:
                below = max(0, node.height * node.kernel[0] - value.shape[2])
                right = max(0, node.width * node.kernel[1] - value.shape[3])
                value = functional.pad(value, (0, right, 0, below)) if below or right else value
                value = functional.avg_pool2d(value, node.kernel, node.stride)
            done.append(functional.relu(value) if node.relu else value)
        return done[-1].flatten(1)


class FloatRun:
    """One training from a seed."""

    def __init__(self, graph: Graph, dataset: Dataset, steps: int, batch: int, seed: int, device: str = "cpu") -> None:
        torch.manual_seed(seed)
        self.device = device
        self.net, self.dataset, self.steps = FloatNet(graph).to(device), dataset, steps
        train = dataset.train
        self.mean, self.deviation = float(train.samples.mean()), float(train.samples.std())
        self.samples, self.labels = self.prepared(train)
        order = np.random.default_rng(seed)
        passes = [order.permutation(len(train)) for _ in range(steps * batch // len(train) + 1)]
        self.order = torch.from_numpy(np.concatenate(passes)[: steps * batch].reshape(steps, batch)).to(device)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=PEAK_RATE)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, PEAK_RATE, total_steps=steps + 1)

    def prepared(self, split: Split) -> tuple[Tensor, Tensor]:
        """Standardised samples and labels."""
        samples = torch.from_numpy(split.samples.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(split.labels.astype(np.int64))
        return ((samples - self.mean) / self.deviation).to(self.device), labels.to(self.device)

    def train(self, steps: int | None = None) -> float:
        """Seconds of the steps by `clock`."""
        start = clock(self.device)
        for chosen in self.order[:steps]:
            loss = functional.cross_entropy(self.net(self.samples[chosen]), self.labels[chosen])
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.schedule.step()
        return clock(self.device) - start

    def accuracy(self) -> tuple[float, float]:
        """On the test split; and seconds of the forward passes by `clock`."""
        samples, labels = self.prepared(self.dataset.test)
        self.net.eval()
        start = clock(self.device)
        with torch.inference_mode():
            found = torch.cat([self.net(part).argmax(1) for part in torch.split(samples, 256)])
        spent = clock(self.device) - start
        return float((found == labels).double().mean()), spent
