"""Train every architecture of a small task exactly, and write a table (genotype, score) for benchmarks of search."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench import segments
from bench.table import TRAINED, TRAINED_MACS, TRAINED_SHAPE, table_spec
from consensus.datasets import BUILTIN, Dataset, Split
from consensus.exact import Recipe, evaluate, quantise, train
from consensus.exact.state import State
from consensus.spaces import InputShape, get_space
from pool.subspace import Domain

RECIPE = Recipe(steps=96, batch=32, segments=8, learning_rate=640)
SEED = b"table"
SPACE = "nb201-v1"
SAMPLE = 256
"""Architectures whose scores after each segment are kept."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add = parser.add_argument
    add("--segments", action="store_true", help=f"instead: scores after each segment, of {SAMPLE} random architectures")
    add("--output", type=Path, help="where to write; what is there is kept (default: where the benchmarks look)")
    add("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    add("--most", type=int, metavar="N", help="train at most N architectures now")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Train what the table lacks; killed, it goes on where it was."""
    path: Path = options.output or (segments.SAMPLE if options.segments else TRAINED)
    columns = RECIPE.segments if options.segments else 1
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        names = [f"after_{n + 1}" for n in range(columns)] if options.segments else ["score"]
        path.write_text(",".join(["genotype", *names]) + "\n")
    known = {bytes.fromhex(line.split(",")[0]) for line in path.read_text().splitlines()[1:]}
    wanted = list(Domain(table_spec(SPACE, TRAINED_SHAPE, TRAINED_MACS)).admitted())
    if options.segments:
        wanted = random.Random(SEED).sample(wanted, SAMPLE)
    missing = [genotype for genotype in wanted if genotype not in known][: options.most]
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with path.open("a") as file, context.Pool(options.processes) as workers:
        for number, (genotype, scores) in enumerate(workers.imap_unordered(train_one, missing), start=1):
            file.write(",".join([genotype.hex(), *(f"{score:.4f}" for score in scores[-columns:])]) + "\n")
            file.flush()
            if number % 50 == 0:
                print(f"{number}/{len(missing)}", file=sys.stderr, flush=True)
    if len(missing) + len(known) == len(wanted):
        _sort(path)
    return {
        "architectures": len(wanted),
        "rows": len(known) + len(missing),
        "trained_now": len(missing),
        "seconds": round(time.monotonic() - started, 1),
    }


def train_one(genotype: bytes) -> tuple[bytes, list[float]]:
    """Genotype, and per cent of the test split that its model predicts after each segment."""
    torch.set_num_threads(1)
    data = mnist_7()
    graph = get_space(SPACE).decode(genotype, data.shape)
    states: list[State] = []
    train(graph, data, RECIPE, SEED, on_state=states.append)
    correct = (evaluate(graph, quantise(state, graph), data.test.samples, data.test.labels) for state in states[1:])
    return genotype, [100 * found / len(data.test) for found in correct]


@functools.cache
def mnist_7() -> Dataset:
    """mnist-5k, every 4 x 4 pixels averaged."""
    whole = BUILTIN["mnist-5k"]()
    splits = [
        Split(split.samples.reshape(-1, 7, 4, 7, 4, 1).mean(axis=(2, 4)).round().astype(np.uint8), split.labels)
        for split in whole.splits
    ]
    return Dataset("mnist-5k-7", InputShape(*TRAINED_SHAPE), *splits)


def _sort(path: Path) -> None:
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *sorted(rows)]) + "\n")
