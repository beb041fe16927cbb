"""The pool: search, members that fail or lie, capacity, rewards and restarts, how it cuts spaces, supernets."""

from __future__ import annotations

import argparse

from bench import (
    pool_capacity,
    pool_faults,
    pool_partition,
    pool_rewards,
    pool_search,
    pool_supernet,
    segments,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="small samples")
    pool_search.add_options(parser)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Figures by part; those that have a bar come first."""
    found, rewards = pool_search.figures(options), pool_rewards.figures(options.quick)
    return {
        "speedup": found["speedup"],
        "redundant_work": found["redundant_work"],
        **pool_faults.figures(options),
        **rewards,
        "capacity": pool_capacity.figures(options),
        "search": found,
        "successive_halving": segments.figures(options),
        "partition": pool_partition.figures(options.quick),
        "supernet": pool_supernet.figures(options.quick),
    }
