"""Tables of scores by architecture: published ones, and one that was trained exactly by `make-table`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from consensus.spaces import get_space
from consensus.types import TaskSpec
from pool.subspace import Domain

TRAINED = Path(__file__).with_name("tables") / "nb201-mnist-7.csv"
"""Every `nb201-v1` cell within `TRAINED_MACS` on mnist-5k at 7 x 7 pixels; see `bench.make_table`."""
TRAINED_MACS = 264_000
TRAINED_SHAPE = (7, 7, 1, 10)
PUBLISHED_SHAPE = (32, 32, 3, 10)


@dataclass(frozen=True, slots=True)
class Table:
    """Scores in per cent of every architecture that the task of `spec` admits."""

    spec: TaskSpec
    scores: dict[bytes, float]


def table_spec(space: str, shape: tuple[int, int, int, int], max_macs: int) -> TaskSpec:
    """A task for searching a table: only space, shape (height, width, channels, classes) and limits matter."""
    height, width, channels, classes = shape
    return TaskSpec(
        name="table", dataset=bytes(32), dataset_bytes=1, height=height, width=width, channels=channels,
        classes=classes, test_samples=10_000, space=space, max_parameters=2**32 - 1, max_macs=max_macs,
        steps=1, batch=1, segments=1, learning_rate=1, eval_samples=10_000, baseline=0, bounty_per_epoch=0,
    )  # fmt: skip


def load(path: Path | None, space: str) -> Table:
    """The table at `path`: a CSV with a header, architecture and score in per cent; None is the trained one.

    Raises ValueError where an architecture of the space has no score.
    """
    if path is None:
        spec = table_spec("nb201-v1", TRAINED_SHAPE, TRAINED_MACS)
        path = TRAINED
    else:
        spec = table_spec(space, PUBLISHED_SHAPE, 2**63)
    known = read(path, spec.space)
    wanted = list(Domain(spec).admitted())
    missing = sum(genotype not in known for genotype in wanted)
    if missing:
        raise ValueError(
            f"{path} lacks {missing} architectures of the task: finish it with `python -m bench make-table`."
        )
    return Table(spec, {genotype: known[genotype] for genotype in wanted})


def read(path: Path, space: str) -> dict[bytes, float]:
    """Scores by genotype as the file names them, not made canonical."""
    parse = get_space(space).parse
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        return {parse(row[0]): float(row[1]) for row in rows}
