"""One step of training as a function of tensors on the device: the host neither reads a value nor decides by one.

So its kernels can be recorded once and launched again with other contents of the same tensors (see `graphs`).
"""

from __future__ import annotations

from typing import ClassVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from consensus.datasets import Dataset
from consensus.exact.engine import Dither, Engine
from consensus.exact.state import State, running_count
from consensus.spaces.graph import Graph


class TrainingData:
    """Training samples and labels on a device; one copy serves all who train on them at a time."""

    _shared: ClassVar[WeakValueDictionary[tuple[int, torch.device, torch.dtype], TrainingData]] = WeakValueDictionary()

    def __init__(self, dataset: Dataset, engine: Engine) -> None:
        self.dataset = dataset  # keeps its id from being given to another one
        self.samples = engine.tensor(dataset.train.samples)
        self.labels = torch.from_numpy(dataset.train.labels.astype(np.int64)).to(engine.device).view(-1, 1)
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)  # whichever stream reads them

    @classmethod
    def of(cls, dataset: Dataset, engine: Engine) -> TrainingData:
        """Those of `dataset`, as they are already there or newly copied."""
        key = id(dataset), engine.device, engine.dtype
        found = cls._shared.get(key)
        if found is None:
            found = cls._shared[key] = cls(dataset, engine)
        return found


class DeviceState:
    """A `State` in tensors that stay where they are: master weights, momentum, running means (float64)."""

    def __init__(self, graph: Graph, engine: Engine) -> None:
        self.weights = torch.zeros(graph.cost.parameters, dtype=engine.dtype, device=engine.device)
        self.momentum = torch.zeros_like(self.weights)
        self.running = torch.zeros(running_count(graph), dtype=torch.float64, device=engine.device)

    def write(self, state: State) -> None:
        """Take over the values of `state`."""
        self.weights.copy_(torch.tensor(state.weights))
        self.momentum.copy_(torch.tensor(state.momentum))
        self.running.copy_(torch.tensor(state.running))

    def read(self, step: int) -> State:
        """A copy on the host, as the state before `step`. Waits for the device."""
        arrays = [part.to(torch.int32).cpu().numpy() for part in (self.weights, self.momentum, self.running)]
        return State(arrays[0], arrays[1], arrays[2], step)


class Step:
    """Moves `state` on by one batch of `data`."""

    def __init__(self, engine: Engine, data: TrainingData, state: DeviceState) -> None:
        self.engine, self.data, self.state = engine, data, state

    def __call__(self, chosen: Tensor, thresholds: Tensor, rate: Tensor, first: bool = False) -> None:
        """`chosen`: indices of samples, (batch,). `thresholds`: the rounding table from this step's place on. `rate`:
        no dimension. `first`: whether this is step 0, which sets the running means.
        """
        engine, state = self.engine, self.state
        weights = engine.quantise(state.weights)
        done = engine.forward(self.data.samples[chosen], weights)
        exponent = weights[engine.last][1] + engine.logit_base
        loss = engine.loss_gradient(done.values[-1], exponent, self.data.labels[chosen])
        gradient = engine.backward(done, weights, loss, Dither(thresholds))
        engine.update(state.weights, state.momentum, gradient, rate)
        engine.update_running(state.running, done, first)
