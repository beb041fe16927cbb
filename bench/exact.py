"""Exact training against float32: accuracy, order of architectures, speed, cost of verifying, memory. One thread."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from statistics import fmean, geometric_mean, median

import numpy as np
import torch

from bench import exact_cuda
from bench.exact_float import FloatRun
from consensus.datasets import BUILTIN, Dataset, Split
from consensus.exact import Recipe, decode_model, evaluate, initial_state, run_segment, train
from consensus.spaces import Graph, InputShape, InvalidGenotype, get_space

SPACE = get_space("stages-v1")
RECIPE = Recipe(steps=320, batch=32, segments=16, learning_rate=640)
MAX_MACS, MAX_PARAMETERS = 1_000_000, 100_000
SEEDS = 3
"""Of exact and of float trainings; a single one moves the order of 40 architectures by some hundredths of tau."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="few architectures and one repetition")
    parser.add_argument("--architectures", type=int, default=40, help="for accuracy and order (default: %(default)s)")
    parser.add_argument("--data", choices=sorted(DATA), help="accuracy and order on these data only")


def run(options: argparse.Namespace) -> dict[str, object]:
    """All figures, and the samples that they come from."""
    torch.set_num_threads(1)
    count = 4 if options.quick else options.architectures
    names = [options.data] if options.data else sorted(DATA)
    quality = {name: _quality(DATA[name](), count) for name in names}
    figures: dict[str, object] = {
        name: {data: found[name] for data, found in quality.items()} for name in next(iter(quality.values()))
    }
    count = 3 if options.quick else 12
    cuda = exact_cuda.figures(
        [graph for _, graph in architectures(count, mnist_14().shape, seed=12)], mnist_14(), RECIPE
    )
    return {**figures, **_speed(count, 1 if options.quick else 3), **_memory(), "cuda": cuda}


def mnist_14() -> Dataset:
    """mnist-5k, every 2 x 2 pixels averaged."""
    whole = BUILTIN["mnist-5k"]()
    splits = [
        Split(split.samples.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4)).round().astype(np.uint8), split.labels)
        for split in whole.splits
    ]
    return Dataset("mnist-5k-14", InputShape(14, 14, 1, 10), *splits)


DATA: dict[str, Callable[[], Dataset]] = {"mnist-5k-14": mnist_14, "glyphs": BUILTIN["glyphs"]}


def architectures(count: int, shape: InputShape, seed: int = 11) -> list[tuple[bytes, Graph]]:
    """Random ones within the limits."""
    rng, found = random.Random(seed), list[tuple[bytes, Graph]]()
    while len(found) < count:
        genotype = SPACE.sample(rng)
        try:
            graph = SPACE.decode(genotype, shape)
        except InvalidGenotype:
            continue
        if graph.cost.macs <= MAX_MACS and graph.cost.parameters <= MAX_PARAMETERS:
            found.append((genotype, graph))
    return found


def kendall(one: list[float], two: list[float]) -> float:
    """Kendall's tau-b."""
    pairs = [(np.sign(one[i] - one[j]), np.sign(two[i] - two[j])) for i, j in combinations(range(len(one)), 2)]
    same = sum(a * b for a, b in pairs)
    untied = [sum(bool(pair[side]) for pair in pairs) for side in (0, 1)]
    return float(same / (untied[0] * untied[1]) ** 0.5) if all(untied) else 0.0


def exact_accuracy(graph: Graph, dataset: Dataset, seed: int) -> float:
    """On the test split."""
    model = decode_model(train(graph, dataset, RECIPE, b"bench%d" % seed).model, graph)
    return evaluate(graph, model, dataset.test.samples, dataset.test.labels) / len(dataset.test)


def _quality(dataset: Dataset, count: int) -> dict[str, object]:
    exact, floats = list[list[float]](), list[list[float]]()
    for _, graph in architectures(count, dataset.shape):
        exact.append([exact_accuracy(graph, dataset, seed) for seed in range(SEEDS)])
        runs = [FloatRun(graph, dataset, RECIPE.steps, RECIPE.batch, seed) for seed in range(SEEDS)]
        floats.append([(run.train(), run.accuracy()[0])[1] for run in runs])
        print(f"{dataset.name} {len(exact)}/{count}: {exact[-1]} {floats[-1]}", file=sys.stderr, flush=True)
    means = [fmean(row) for row in floats]
    rivals = [
        kendall([row[seed] for row in floats], [(sum(row) - row[seed]) / (SEEDS - 1) for row in floats])
        for seed in range(SEEDS)
    ]
    taus = [kendall([row[seed] for row in exact], means) for seed in range(SEEDS)]
    accuracy = fmean(map(fmean, exact))
    return {
        "accuracy_float": fmean(means),
        "accuracy_exact": accuracy,
        "accuracy_gap_points": 100 * (fmean(means) - accuracy),
        "tau_exact_float": fmean(taus),
        "tau_float_float": fmean(rivals),
        "rank_agreement": fmean(taus) / fmean(rivals) if fmean(rivals) else None,
        "rank_agreement_by_seed": [tau / fmean(rivals) for tau in taus] if fmean(rivals) else None,
        "architectures": count,
    }


def _speed(count: int, repetitions: int) -> dict[str, object]:
    dataset = mnist_14()
    ratios: dict[str, list[float]] = {"train": [], "eval": [], "verify": [], "replay": [], "hash": []}
    for _, graph in architectures(count, dataset.shape, seed=12):
        times: dict[str, list[float]] = {}
        for repetition in range(repetitions):
            rival = FloatRun(graph, dataset, RECIPE.steps, RECIPE.batch, repetition)
            part = {"float train": rival.train(), "float eval": rival.accuracy()[1]}
            for name, seconds in {**part, **_exact_times(graph, dataset)}.items():
                times.setdefault(name, []).append(seconds)
        middle = {name: median(seconds) for name, seconds in times.items()}
        ratios["train"].append(middle["float train"] / middle["train"])
        ratios["eval"].append(middle["float eval"] / middle["eval"])
        for name in ("verify", "replay", "hash"):
            ratios[name].append(middle[name] / middle["train"])
        print(f"speed {len(ratios['train'])}/{count}: {ratios['train'][-1]:.2f}", file=sys.stderr, flush=True)
    return {
        "train_speed": geometric_mean(ratios["train"]),
        "eval_speed": geometric_mean(ratios["eval"]),
        "verify_cost_of_training": 1 / geometric_mean(ratios["verify"]),
        "replay_cost_of_training": 1 / geometric_mean(ratios["replay"]),
        "hash_share": fmean(ratios["hash"]),
        "train_speed_by_architecture": [round(ratio, 2) for ratio in ratios["train"]],
    }


def _exact_times(graph: Graph, dataset: Dataset) -> dict[str, float]:
    """Processor seconds: a training, a replay of its first segment, hashing, a reveal's evaluation."""
    marks = [time.process_time()]
    done = train(graph, dataset, RECIPE, b"bench")
    marks.append(time.process_time())
    state = run_segment(graph, dataset, RECIPE, b"bench", initial_state(graph, b"bench"), 0)
    marks.append(time.process_time())
    for _ in range(RECIPE.segments + 1):
        state.digest()
    marks.append(time.process_time())
    model = decode_model(done.model, graph)
    evaluate(graph, model, dataset.test.samples, dataset.test.labels)
    marks.append(time.process_time())
    whole, replay, hashing, verify = np.diff(marks).tolist()
    return {"train": whole, "replay": replay, "hash": hashing, "verify": verify, "eval": verify}


def _memory() -> dict[str, object]:
    """Of the network with the most multiply-accumulates, batches of 256."""
    genotype, _ = max(architectures(12, mnist_14().shape, seed=12), key=lambda pair: pair[1].cost.macs)
    found = {}
    for kind in ("exact", "float"):
        command = [sys.executable, "-m", "bench.exact_memory", kind, genotype.hex(), "256"]
        found[kind] = float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return {"memory_mb": found["exact"], "memory_mb_float": found["float"], "memory": found["exact"] / found["float"]}
