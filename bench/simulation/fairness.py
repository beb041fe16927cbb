"""Whether a miner's part of the seats is its part of the compute, alone, split, or together with others."""

from __future__ import annotations

from collections.abc import Sequence

from bench.simulation.setting import Setting
from bench.simulation.world import World

PARTS = (1, 1, 1, 2, 2, 3, 10, 40, 20, 12, 5, 3)
"""Trainings of each miner in an epoch: 100 in all, so they are per cent."""
ACCOMPLICES = 10
SHARED, ALONE = 40, 4
"""Trainings of a group of ten in an epoch, and of each of its members."""


def figures(epochs: int, seed: int = 1) -> dict[str, object]:
    """Slopes of seats over compute, both in parts of the whole, and what shared knowledge adds to a group of ten.

    `slope`: every miner on its own. `slope_split`: the three largest under ten names each, which know nothing of
    one another. `slope_joined`: miners of 1 and 2 per cent that pay into one table, as many as make the same parts.
    """
    alone = shares(PARTS, [[place] for place in range(len(PARTS))], epochs, seed)
    split = _split(PARTS, ACCOMPLICES)
    joined = _joined(PARTS)
    knowledge = {strategy: _gain(strategy, epochs, seed) for strategy in ("evolution", "surrogate")}
    return {
        "epochs": epochs,
        "slope": round(slope(alone), 4),
        "slope_split": round(slope(shares(*split, epochs, seed + 1)), 4),
        "slope_joined": round(slope(shares(*joined, epochs, seed + 2)), 4),
        "seats_by_compute": [(round(compute, 4), round(seats, 4)) for compute, seats in sorted(alone)],
        "seats_by_shared_knowledge": knowledge,
    }


def shares(
    parts: Sequence[int], groups: Sequence[Sequence[int]], epochs: int, seed: int, strategy: str | None = None
) -> list[tuple[float, float]]:
    """(part of the compute, part of the seats) of each group of miners."""
    setting = Setting(
        nodes=len(parts),
        miners=len(parts),
        epochs=epochs,
        seed=seed,
        compute=tuple(parts),
        strategy=strategy,
        reveals=8,
    ).with_parameters(commit_leaves=64, reveals_per_block=256, commits_per_epoch=128)
    world = World(setting)
    world.run()
    seats, total = world.observer.seats, sum(parts)
    return [
        (sum(parts[place] for place in group) / total, sum(seats[place] for place in group) / seats.total())
        for group in groups
    ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line of least squares through the points."""
    x, y = [point[0] for point in points], [point[1] for point in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in points)
    return above / sum((a - mean_x) ** 2 for a in x)


def _split(parts: Sequence[int], names: int) -> tuple[list[int], list[list[int]]]:
    """The same compute where everybody with enough of it acts under many names."""
    found: list[int] = []
    groups: list[list[int]] = []
    for part in parts:
        count = names if part >= names else 1
        sizes = [part // count + (place < part % count) for place in range(count)]
        groups.append(list(range(len(found), len(found) + count)))
        found += sizes
    return found, groups


def _joined(parts: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The same parts, each made of miners of 2 per cent and, where it is odd, one of 1."""
    found: list[int] = []
    groups: list[list[int]] = []
    for part in parts:
        sizes = [2] * (part // 2) + [1] * (part % 2)
        groups.append(list(range(len(found), len(found) + len(sizes))))
        found += sizes
    return found, groups


def _gain(strategy: str, epochs: int, seed: int) -> dict[str, float]:
    """Part of the seats of ten miners with 40 per cent of the compute, apart and with one archive, and the ratio.

    All others search with the same strategy, each for itself.
    """
    rest = [ALONE] * ((100 - SHARED) // ALONE)
    apart = shares([*[ALONE] * ACCOMPLICES, *rest], [range(ACCOMPLICES)], epochs, seed, strategy)[0][1]
    together = shares([SHARED, *rest], [[0]], epochs, seed, strategy)[0][1]
    return {"apart": round(apart, 4), "together": round(together, 4), "gain": round(together / apart, 3)}
