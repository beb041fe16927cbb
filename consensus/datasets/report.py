"""What a data set holds, for people: sizes, classes, splits, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chain.artifact import artifact_id
from consensus.datasets.format import SPLITS, Dataset, encode_dataset

FEW = 100
"""A test split smaller than this cannot tell good architectures apart."""


@dataclass(frozen=True, slots=True)
class Report:
    """`counts[split][label]`: samples of a class. `majority`: the most frequent class's share of the test split in
    1/10,000, rounded up: the score of whoever always guesses it. `shared`: samples of validation or test that also
    stand in train. `warnings`: sentences."""

    name: str
    id: bytes
    size: int
    sample: tuple[int, int, int]
    kind: str
    counts: dict[str, tuple[int, ...]]
    majority: int
    shared: int
    warnings: tuple[str, ...]


def report(dataset: Dataset) -> Report:
    """The report of a data set."""
    data, shape = encode_dataset(dataset), dataset.shape
    counts = {
        name: tuple(int(count) for count in np.bincount(split.labels, minlength=shape.classes))
        for name, split in zip(SPLITS, dataset.splits, strict=True)
    }
    seen = {sample.tobytes() for sample in dataset.train.samples}
    shared = sum(sample.tobytes() in seen for split in dataset.splits[1:] for sample in split.samples)
    majority = -(-max(counts["test"]) * 10_000 // len(dataset.test))
    return Report(
        dataset.name,
        artifact_id(data),
        len(data),
        (shape.height, shape.width, shape.channels),
        dataset.train.samples.dtype.name,
        counts,
        majority,
        shared,
        tuple(_warnings(dataset, counts, shared)),
    )


def _warnings(dataset: Dataset, counts: dict[str, tuple[int, ...]], shared: int) -> list[str]:
    found = []
    for name in SPLITS:
        missing = [str(label) for label, count in enumerate(counts[name]) if not count]
        if missing:
            found.append(f"There is no {name} sample of class {', '.join(missing[:10])}.")
    if len(dataset.test) < FEW:
        found.append(f"{len(dataset.test)} test samples are few: scores will hardly tell architectures apart.")
    if shared:
        found.append(f"{shared} samples of validation or test are in train as well.")
    if all((split.samples == dataset.train.samples[:1]).all() for split in dataset.splits):
        found.append("All samples are equal.")
    return found
