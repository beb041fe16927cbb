"""Successive halving over training segments, against whole trainings of the same cost.

Every architecture of a sample was trained exactly, and its model after each segment scored (`make-table --segments`).
A bracket (Jamieson and Talwalkar, AISTATS 2016) trains all it drew for one segment and keeps the better half, trains on
to the second segment and keeps half, then to the fourth and so on; the last ones are trained to the end.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path
from statistics import fmean

from bench.pool_supernet import spearman

SAMPLE = Path(__file__).with_name("tables") / "nb201-mnist-7-segments.csv"
BRACKETS = (8, 16, 32, 64)
DRAWS = 2000


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Mean best final score of brackets, and of random whole trainings for as many segments. `options.quick`: less."""
    table = read(SAMPLE)
    draws = DRAWS // 20 if options.quick else DRAWS
    segments = len(table[0])
    final = [row[-1] for row in table]
    rng = random.Random(7)
    brackets = {}
    for size in BRACKETS:
        runs = [halve(rng.sample(table, size)) for _ in range(draws)]
        trainings = round(runs[0][1] / segments)
        brackets[f"of_{size}"] = {
            "cost_in_whole_trainings": runs[0][1] / segments,
            "halving": round(fmean(best for best, _ in runs), 3),
            "random": round(fmean(max(rng.sample(final, trainings)) for _ in range(draws)), 3),
            "the_best_of_all_drawn": round(fmean(max(rng.sample(final, size)) for _ in range(draws)), 3),
        }
    ranks = {f"segment_{n + 1}": round(spearman([row[n] for row in table], final), 3) for n in range(segments)}
    return {"architectures": len(table), "brackets": brackets, "rank_correlation_with_the_end": ranks}


def halve(drawn: list[tuple[float, ...]]) -> tuple[float, int]:
    """The best final score that a bracket finds, and the segments that it trained. Scores are by segment."""
    done, cost, last = 0, 0, len(drawn[0])
    while done < last:
        target = min(last, max(1, 2 * done))
        if len(drawn) <= 2:
            target = last
        cost += len(drawn) * (target - done)
        done = target
        drawn = sorted(drawn, key=lambda scores: -scores[done - 1])[: max(1, len(drawn) // 2)]
    return drawn[0][-1], cost


def read(path: Path) -> list[tuple[float, ...]]:
    """Scores after each segment, in per cent; one row for each architecture."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [tuple(float(score) for score in row[1:]) for row in rows]
