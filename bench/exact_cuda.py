"""Exact training on CUDA: speed against eager float32 there, gain of trainings side by side, sameness with the CPU."""

from __future__ import annotations

import sys
from statistics import geometric_mean

import torch

from bench.exact_float import FloatRun, clock
from consensus.datasets import Dataset
from consensus.exact import Candidate, Recipe, decode_model, evaluate, pick_device, train, train_together
from consensus.spaces import Graph

TOGETHER = 4
SEED = b"bench"


def figures(graphs: list[Graph], dataset: Dataset, recipe: Recipe, device: str = "cuda") -> dict[str, object] | None:
    """Times are seconds on the wall; None where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        return None
    pick_device(device)
    FloatRun(graphs[0], dataset, 8, recipe.batch, 0, device).train()  # libraries set themselves up
    trained, evaluated, same = list[float](), list[float](), 0
    for graph in graphs:
        rival = FloatRun(graph, dataset, recipe.steps, recipe.batch, 0, device)
        float_train, float_eval = rival.train(), rival.accuracy()[1]
        marks = [clock(device)]
        done = train(graph, dataset, recipe, SEED, device)
        marks.append(clock(device))
        model = decode_model(done.model, graph)
        marks.append(clock(device))
        evaluate(graph, model, dataset.test.samples, dataset.test.labels, device)
        marks.append(clock(device))
        trained.append(float_train / (marks[1] - marks[0]))
        evaluated.append(float_eval / (marks[3] - marks[2]))
        same += done == train(graph, dataset, recipe, SEED)
        print(f"{device} {len(trained)}/{len(graphs)}: {trained[-1]:.2f}", file=sys.stderr, flush=True)
    return {
        "train_speed": geometric_mean(trained),
        "eval_speed": geometric_mean(evaluated),
        "side_by_side": _side_by_side([Candidate(graph, dataset, recipe, SEED) for graph in graphs[:TOGETHER]], device),
        "same_as_cpu": same == len(graphs),
        "architectures": len(graphs),
    }


def _side_by_side(candidates: list[Candidate], device: str) -> float:
    """Time of the trainings together over their time one after another."""
    marks = [clock(device)]
    for candidate in candidates:
        train_together([candidate], device)
    marks.append(clock(device))
    train_together(candidates, device)
    marks.append(clock(device))
    return (marks[2] - marks[1]) / (marks[1] - marks[0])
