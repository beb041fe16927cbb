"""Train every architecture of a small task exactly, and write a table (genotype, score) for benchmarks of search."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench.table import TRAINED, TRAINED_MACS, TRAINED_SHAPE, admitted, read, table_spec
from consensus.datasets import BUILTIN, Dataset, Split
from consensus.exact import Recipe, decode_model, evaluate, train
from consensus.spaces import InputShape, get_space

RECIPE = Recipe(steps=96, batch=32, segments=8, learning_rate=640)
SEED = b"table"
SPACE = "nb201-v1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--output", type=Path, default=TRAINED, help="where to write; what is there is kept")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    parser.add_argument("--most", type=int, metavar="N", help="train at most N architectures now")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Train what the table lacks; killed, it goes on where it was."""
    path: Path = options.output
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("genotype,score\n")
    known = read(path, SPACE)
    wanted = list(admitted(table_spec(SPACE, TRAINED_SHAPE, TRAINED_MACS)))
    missing = [genotype for genotype in wanted if genotype not in known][: options.most]
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with path.open("a") as file, context.Pool(options.processes) as workers:
        for number, (genotype, score) in enumerate(workers.imap_unordered(train_one, missing), start=1):
            file.write(f"{genotype.hex()},{score:.4f}\n")
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


def train_one(genotype: bytes) -> tuple[bytes, float]:
    """Genotype and per cent of the test split that its model predicts."""
    torch.set_num_threads(1)
    data = mnist_7()
    graph = get_space(SPACE).decode(genotype, data.shape)
    model = decode_model(train(graph, data, RECIPE, SEED).model, graph)
    return genotype, 100 * evaluate(graph, model, data.test.samples, data.test.labels) / len(data.test)


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
