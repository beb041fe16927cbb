"""Training runs: segments, their leaves and the final model. Source: protocol, section 3.

A run is a generator that yields after each step, so that one thread can keep several going on one device.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from consensus.datasets import Dataset
from consensus.exact.engine import Engine
from consensus.exact.evaluation import evaluate
from consensus.exact.graphs import Replayed
from consensus.exact.model import content_id, quantise
from consensus.exact.recipe import Recipe
from consensus.exact.state import State, initial_state
from consensus.exact.step import DeviceState, Step, TrainingData
from consensus.exact.streams import DITHER_PERIOD, batch_indices, dither_start, dither_table
from consensus.spaces.graph import Graph

T = TypeVar("T")
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """What determines a training."""

    graph: Graph
    dataset: Dataset
    recipe: Recipe
    seed: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training behind segment `len(leaves) - 1`: its leaves so far, and the state of the last one."""

    leaves: tuple[bytes, ...]
    state: State


class Trainer:
    """A candidate on a device, ready to run segments. On CUDA it has a stream and memory of its own."""

    def __init__(self, candidate: Candidate, device: str) -> None:
        graph, shape = candidate.graph, candidate.dataset.shape
        node, recipe = graph.nodes[0], candidate.recipe
        if (shape.height, shape.width, shape.channels) != (node.height, node.width, node.channels):
            raise ValueError("The network was decoded for samples of another shape.")
        if shape.classes != graph.classes:
            raise ValueError("The network was decoded for another number of classes.")
        self.recipe, self.seed, self.total = recipe, candidate.seed, len(candidate.dataset.train)
        engine = Engine(graph, device)
        self.device = engine.device
        self.stream: torch.cuda.Stream | None = None  # the CPU has none
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self.span = DITHER_PERIOD + recipe.batch * max(node.height * node.width * node.channels for node in graph.nodes)
        with torch.cuda.stream(self.stream):
            data = TrainingData.of(candidate.dataset, engine)
            table = engine.tensor(dither_table(self.seed)).div_(256)
            self.table = table.repeat(2 + (self.span - 1) // DITHER_PERIOD)[: DITHER_PERIOD + self.span]
            self.state = DeviceState(graph, engine)
        self.step = Step(engine, data, self.state)
        self.launch = Replayed(self.step, self.stream) if self.stream is not None else self.step

    def run(self, state: State, index: int) -> Generator[int, None, State]:
        """Segment `index` (from 0); yields the number of steps launched after each, and returns the state after it.

        Raises ValueError if the state is not at its start.
        """
        steps = self.recipe.segment_steps
        if not 0 <= index < self.recipe.segments or state.step != index * steps:
            raise ValueError(f"A state at step {state.step} is not the start of segment {index}.")
        places = range(state.step, state.step + steps)
        order = [batch_indices(self.seed, self.total, self.recipe.batch, step) for step in places]
        try:
            with torch.cuda.stream(self.stream):
                batches = torch.from_numpy(np.stack(order)).to(self.device)
                falling = [self.recipe.rate(step) for step in places]
                rates = torch.tensor(falling, dtype=self.table.dtype, device=self.device)
                self.state.write(state)
            for number, step in enumerate(places):
                start = dither_start(self.seed, step)
                with torch.inference_mode(), torch.cuda.stream(self.stream):
                    inputs = batches[number], self.table[start : start + self.span], rates[number]
                    if step == 0:
                        self.step(*inputs, first=True)
                    else:
                        self.launch(*inputs)
                yield step + 1
            with torch.cuda.stream(self.stream):
                return self.state.read(places.stop)
        finally:
            if self.stream is not None:
                self.stream.synchronize()  # tensors may be freed only when nothing that reads them is under way


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
    return finish(Trainer(Candidate(graph, dataset, recipe, seed), device).run(state, index), on_step)


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
    """A whole training: a pure function of the first four arguments. `on_step` is told the number of steps done,
    `on_state` gets the state behind each leaf but the last.

    Raises `Stopped` as soon as `should_stop` says so.
    """
    return finish(train_stepwise(Candidate(graph, dataset, recipe, seed), device, on_state), on_step, should_stop)


def train_stepwise(
    candidate: Candidate, device: str = "cpu", on_state: OnState | None = None, start: Checkpoint | None = None
) -> Generator[int, None, Training]:
    """A whole training; yields the number of steps done after each (on an accelerator: launched), returns the result.

    Others may be run between two steps, on the same device and in the same thread. It ends early if it is closed.
    From `start` on, where there is one: its leaves are taken over as they are, `on_state` gets the states behind it.
    Raises ValueError where its state is not that of its last leaf.
    """
    trainer = Trainer(candidate, device)
    if start is None:
        state = initial_state(candidate.graph, candidate.seed)
        leaves = [state.digest()]
        if on_state is not None:
            on_state(state)
    else:
        state, leaves = start.state, list(start.leaves)
        if state.digest() != leaves[-1] or state.step != (len(leaves) - 1) * candidate.recipe.segment_steps:
            raise ValueError("The state to go on from is not that of the last leaf.")
    for index in range(len(leaves) - 1, candidate.recipe.segments):
        state = yield from trainer.run(state, index)
        leaves.append(state.digest())
        if on_state is not None:
            on_state(state)
    model = quantise(state, candidate.graph)
    data = model.encode()
    split = candidate.dataset.validation
    correct = evaluate(candidate.graph, model, split.samples, split.labels, device)
    return Training((*leaves, content_id(data)), data, correct, len(split))


def train_together(
    candidates: Sequence[Candidate],
    device: str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    should_stop: Callable[[int], bool] | None = None,
) -> list[Training | Exception]:
    """Trainings side by side on one device, a step of each in turn: each result as `train` gives it, in order.

    `on_step` gets the place of a candidate and its number of steps done, `should_stop` the place. Whatever exception a
    training ends with, `Stopped` included, stands in its place, and the others go on. What a callback raises ends all.
    """
    runs = [train_stepwise(candidate, device) for candidate in candidates]
    return interleave(runs, on_step or (lambda place, step: None), should_stop or (lambda place: False))


def interleave(
    runs: Sequence[Generator[int, None, T]], on_step: Callable[[int, int], None], should_stop: Callable[[int], bool]
) -> list[T | Exception]:
    """Take a step of each run in turn, to the end of all. For the callbacks and the results see `train_together`."""
    results: dict[int, T | Exception] = {}
    try:
        while len(results) < len(runs):
            for place, run in enumerate(runs):
                if place in results:
                    continue
                if should_stop(place):
                    results[place] = Stopped("Training was stopped before its end.")
                    run.close()
                    continue
                try:
                    step = next(run)
                except StopIteration as end:
                    results[place] = end.value
                except Exception as error:
                    traceback.clear_frames(error.__traceback__)  # they hold tensors, which the others may need room for
                    results[place] = error
                else:
                    on_step(place, step)
    finally:
        for run in runs:
            run.close()
    return [results[place] for place in range(len(runs))]


def finish(run: Generator[int, None, T], on_step: OnStep | None = None, should_stop: ShouldStop | None = None) -> T:
    """The result of one run; raises what it ends with."""
    [result] = interleave(
        [run],
        lambda place, step: None if on_step is None else on_step(step),
        lambda place: should_stop is not None and should_stop(),
    )
    if isinstance(result, Exception):
        raise result
    return result
