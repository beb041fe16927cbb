"""Counting under prefixes, and what the partition costs and does."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from statistics import median

from consensus.spaces import SPACES, get_space
from consensus.types import TaskSpec
from pool.partition import Partition
from pool.search import Archive
from pool.subspace import Domain
from pool.work import Candidate

SEED = 20260101
SPEC = TaskSpec(
    name="digits", dataset=bytes(32), dataset_bytes=1, height=8, width=8, channels=1, classes=10, test_samples=300,
    space="stages-v1", max_parameters=100_000, max_macs=5_000_000, steps=20, batch=8, segments=2, learning_rate=256,
    eval_samples=300, baseline=1000, bounty_per_epoch=0,
)  # fmt: skip


def figures(quick: bool = False) -> dict[str, object]:
    """Medians over repeats; `quick` takes fewer of them and smaller ones."""
    repeats, results = (3, 4_000) if quick else (5, 40_000)
    return {
        "architectures": {name: space.count(b"") for name, space in SPACES.items()},
        "uniform_samples_per_second": {name: _median(repeats, functools.partial(_samples, name)) for name in SPACES},
        "results_per_second_through_partition": _median(repeats, lambda: _adds(results)),
        "results_per_second_through_archive": _median(repeats, lambda: _archived(results)),
        "detail": _detail(results // 10),
    }


def _median(repeats: int, measure: Callable[[], float]) -> int:
    return round(median(measure() for _ in range(repeats)))


def _samples(name: str, count: int = 2_000) -> float:
    space, rng = get_space(name), random.Random(SEED)
    space.count(b"")
    start = time.perf_counter()
    for _ in range(count):
        space.sample_uniform(b"", rng)
    return count / (time.perf_counter() - start)


def _genotypes(count: int) -> list[bytes]:
    space, rng = get_space(SPEC.space), random.Random(SEED)
    return list(dict.fromkeys(space.sample_uniform(b"", rng) for _ in range(count)))


def _adds(count: int) -> float:
    partition, genotypes = Partition(get_space(SPEC.space)), _genotypes(count)
    start = time.perf_counter()
    for genotype in genotypes:
        partition.add(genotype, sum(genotype))
    return len(genotypes) / (time.perf_counter() - start)


def _archived(count: int) -> float:
    archive, genotypes = Archive(Domain(SPEC)), _genotypes(count)
    start = time.perf_counter()
    for genotype in genotypes:
        archive.add(Candidate(genotype, (), b"", 0, sum(genotype), 400, b""))
    return len(genotypes) / (time.perf_counter() - start)


def _detail(count: int) -> dict[str, object]:
    """Results of which a tenth is good, all under one prefix: how much of the tree's detail lies under it."""
    space, good, rng = get_space(SPEC.space), bytes([1, 4]), random.Random(SEED)
    partition = Partition(space)
    start = len(partition.leaves)
    for genotype in dict.fromkeys(space.sample_uniform(good if rng.random() < 0.1 else b"", rng) for _ in range(count)):
        partition.add(genotype, sum(genotype) + 1000 * genotype.startswith(good))
    inside = [leaf for prefix, leaf in partition.leaves.items() if prefix.startswith(good)]
    return {
        "results": partition.results,
        "leaves_at_start": start,
        "leaves": len(partition.leaves),
        "leaves_under_the_good_prefix": len(inside),
        "part_of_the_space_under_it": round(space.count(good) / space.distinct_count(), 3),
        "sum_of_sizes_is_exact": sum(leaf.size for leaf in partition.leaves.values()) == space.distinct_count(),
    }
