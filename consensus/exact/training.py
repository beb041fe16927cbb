"""Training runs: segments, their leaves and the final model. Source: protocol, section 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from consensus.datasets import Dataset
from consensus.exact.engine import Dither, Engine
from consensus.exact.evaluation import evaluate
from consensus.exact.model import content_id, quantise
from consensus.exact.recipe import Recipe
from consensus.exact.state import State, initial_state
from consensus.exact.streams import DITHER_PERIOD, batch_indices, dither_start, dither_table
from consensus.spaces.graph import Graph

OnStep = Callable[[int], None]
OnState = Callable[[State], None]
ShouldStop = Callable[[], bool]


class Stopped(Exception):
    """Training was asked to stop before its end."""


@dataclass(frozen=True, slots=True)
class Training:
    """`leaves`: hashes of the initial state and the state after each segment, and the content id of `model`, bytes."""

    leaves: tuple[bytes, ...]
    model: bytes
    validation_correct: int
    validation_total: int


class Trainer:
    """Graph, data and recipe on a device, ready to run segments."""

    def __init__(self, graph: Graph, dataset: Dataset, recipe: Recipe, seed: bytes, device: str) -> None:
        shape, node = dataset.shape, graph.nodes[0]
        if (shape.height, shape.width, shape.channels) != (node.height, node.width, node.channels):
            raise ValueError("The network was decoded for samples of another shape.")
        if shape.classes != graph.classes:
            raise ValueError("The network was decoded for another number of classes.")
        self.recipe, self.seed, self.total = recipe, seed, len(dataset.train)
        self.engine = Engine(graph, device)
        self.samples = self.engine.tensor(dataset.train.samples)
        labels = torch.from_numpy(dataset.train.labels.astype(np.int64))
        self.labels = labels.to(self.engine.device).view(-1, 1)
        largest = max(node.height * node.width * node.channels for node in graph.nodes)
        table = np.resize(dither_table(seed), DITHER_PERIOD + recipe.batch * largest)
        self.table = self.engine.tensor(table) / 256

    def run(self, state: State, index: int, on_step: OnStep | None, should_stop: ShouldStop | None) -> State:
        """Segment `index` (from 0). Raises ValueError if the state is not at its start, `Stopped` if asked to."""
        steps = self.recipe.segment_steps
        if not 0 <= index < self.recipe.segments or state.step != index * steps:
            raise ValueError(f"A state at step {state.step} is not the start of segment {index}.")
        master, momentum = self.engine.tensor(state.weights), self.engine.tensor(state.momentum)
        running = torch.from_numpy(state.running.astype(np.float64)).to(self.engine.device)
        first = state.step
        order = [batch_indices(self.seed, self.total, self.recipe.batch, first + step) for step in range(steps)]
        batches = torch.from_numpy(np.stack(order)).to(self.engine.device)
        with torch.inference_mode():
            for offset in range(steps):
                if should_stop is not None and should_stop():
                    raise Stopped(f"Training stopped before step {first + offset}.")
                self._step((master, momentum, running), batches[offset], first + offset)
                if on_step is not None:
                    on_step(first + offset + 1)
        arrays = [part.to(torch.int32).cpu().numpy() for part in (master, momentum, running)]
        return State(arrays[0], arrays[1], arrays[2], first + steps)

    def _step(self, state: tuple[torch.Tensor, torch.Tensor, torch.Tensor], chosen: torch.Tensor, step: int) -> None:
        engine, (master, momentum, running) = self.engine, state
        weights = engine.quantise(master)
        done = engine.forward(self.samples[chosen], weights)
        exponent = weights[engine.last][1] + engine.logit_base
        loss = engine.loss_gradient(done.values[-1], exponent, self.labels[chosen])
        gradient = engine.backward(done, weights, loss, Dither(self.table, dither_start(self.seed, step)))
        engine.update(master, momentum, gradient, self.recipe.rate(step))
        engine.update_running(running, done, first=step == 0)


def run_segment(
    graph: Graph,
    dataset: Dataset,
    recipe: Recipe,
    seed: bytes,
    state: State,
    index: int,
    device: str = "cpu",
    on_step: OnStep | None = None,
) -> State:
    """The state after segment `index` (from 0) of the state before it. Raises ValueError if they do not fit."""
    return Trainer(graph, dataset, recipe, seed, device).run(state, index, on_step, None)


def train(
    graph: Graph,
    dataset: Dataset,
    recipe: Recipe,
    seed: bytes,
    device: str = "cpu",
    on_step: OnStep | None = None,
    should_stop: ShouldStop | None = None,
    on_state: OnState | None = None,
) -> Training:
    """A whole training: a pure function of the first four arguments. `on_step` is told the number of steps done.

    `on_state` is given each state whose hash is a leaf: the initial one and that after each segment.
    Raises `Stopped` as soon as `should_stop` says so.
    """
    trainer = Trainer(graph, dataset, recipe, seed, device)
    state = initial_state(graph, seed)
    leaves = [state.digest()]
    if on_state is not None:
        on_state(state)
    for index in range(recipe.segments):
        state = trainer.run(state, index, on_step, should_stop)
        leaves.append(state.digest())
        if on_state is not None:
            on_state(state)
    model = quantise(state, graph)
    data = model.encode()
    split = dataset.validation
    correct = evaluate(graph, model, split.samples, split.labels, device)
    return Training((*leaves, content_id(data)), data, correct, len(split))
