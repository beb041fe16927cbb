"""What the jobs of a worker process work on: device, data, network and recipe, kept from one call to the next."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.types import TaskSpec

if TYPE_CHECKING:
    from consensus.datasets import Dataset
    from consensus.exact import Recipe
    from consensus.spaces.graph import Graph


@functools.cache
def device_of(name: str) -> str:
    """The device that a name stands for, after its self-test."""
    from consensus import exact

    return exact.pick_device(name)


@functools.lru_cache(maxsize=4)
def dataset_of(artifacts: str, id: bytes, size: int) -> Dataset:
    """The dataset among the artifacts in a folder. Raises BadDataset."""
    from consensus.datasets import decode_dataset

    return decode_dataset((Path(artifacts) / id.hex()).read_bytes(), size)


@functools.lru_cache(maxsize=4)
def judging_dataset(artifacts: str, spec: TaskSpec, sealed: bytes, key: bytes) -> Dataset:
    """The task's dataset, its test split the one that `key` opens where one is sealed. Raises BadDataset."""
    from consensus.datasets import with_sealed_test

    data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    return with_sealed_test(data, (Path(artifacts) / sealed.hex()).read_bytes(), key) if sealed else data


@functools.lru_cache(maxsize=64)
def graph_of(spec_bytes: bytes, genotype: bytes) -> Graph:
    """The network of a genotype of a task."""
    from consensus.spaces import get_space
    from consensus.tasks import input_shape

    spec = TaskSpec.decode(spec_bytes)
    return get_space(spec.space).decode(genotype, input_shape(spec))


def recipe_of(spec: TaskSpec) -> Recipe:
    """The task's training recipe."""
    from consensus.exact import Recipe

    return Recipe(steps=spec.steps, batch=spec.batch, segments=spec.segments, learning_rate=spec.learning_rate)
