"""A network of real state machines under virtual time, with faults and with nodes that misbehave."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench.simulation.faults import Faults, random_case
from bench.simulation.kinds import KINDS
from bench.simulation.report import figures, recover
from bench.simulation.setting import Setting, spread
from bench.simulation.world import World


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the simulation."""
    add = parser.add_argument
    add("--nodes", type=int, default=20, help="default: %(default)s")
    add("--miners", type=int, default=12, help="how many of the nodes mine (default: %(default)s)")
    add("--epochs", type=int, default=4, help="default: %(default)s")
    add("--seed", type=int, default=1, help="one seed, one history (default: %(default)s)")
    add(
        "--byzantine", action="append", default=[], metavar="KIND:N", type=_kind,
        help=f"N of the miners misbehave; may be repeated. KIND: {', '.join(sorted(KINDS))}",
    )  # fmt: skip
    add("--faults", action="store_true", help="random faults and misbehaviour, as in `consensus`; instead of the above")
    add(
        "--own", action="store_true",
        help="every node executes every block in a database of its own: the same history, for a few nodes",
    )  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, object]:
    """Simulate; raises Violation, with seed and event, where something happened that must not."""
    started, processor = time.monotonic(), time.process_time()
    setting, faults = _case(options)
    if options.own:
        with tempfile.TemporaryDirectory() as folder:
            found = _simulate(setting, faults, Path(folder))
    else:
        found = _simulate(setting, faults, None)
    seconds = {"seconds": time.monotonic() - started, "processor_seconds": time.process_time() - processor}
    return {**found, **{name: round(value, 1) for name, value in seconds.items()}}


def _simulate(setting: Setting, faults: Faults, folder: Path | None) -> dict[str, object]:
    world = World(setting, folder)
    try:
        world.run(0.0, faults.plan)
        slots = recover(world, faults)
        world.go_on(max(world.events.now, setting.end))
        return {**figures(world), "recovered_after_slots": slots}
    finally:
        world.close()


def _case(options: argparse.Namespace) -> tuple[Setting, Faults]:
    if options.faults:
        return random_case(options.seed, options.nodes, options.miners, options.epochs)
    kinds = [kind for kind, count in options.byzantine for _ in range(count)]
    if len(kinds) >= options.miners:
        raise SystemExit("somebody must be honest: fewer nodes may misbehave than mine")
    byzantine = spread(kinds, options.miners)
    return Setting(options.nodes, options.miners, options.epochs, options.seed, byzantine=byzantine), Faults()


def _kind(text: str) -> tuple[str, int]:
    kind, _, count = text.partition(":")
    if kind not in KINDS or not count.isdigit():
        raise argparse.ArgumentTypeError(f"KIND:N with one of {', '.join(sorted(KINDS))}")
    return kind, int(count)
