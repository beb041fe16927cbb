"""ponas selftest: does this machine compute exactly, and does the beacon's delay fit it?"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ponas_node.cli import options
from ponas_node.cli.errors import UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

_DISCRIMINANT_BITS = 512  # where no genesis says otherwise
_ABOUT = """\
Test whether a device computes the integers that every node must agree on: the longest sums of the largest values, sums
that cancel from just below 2^24, convolutions, filters and pools of odd sizes and their gradients, rounding at every
edge, and a small training whose hash is known. Every node runs this at its start. Exit code 0: exact; 1: not, or it
cannot be used. It also measures how fast this machine computes the beacon's delay; with --genesis it says whether the
network's delay is long enough that nobody with such a machine can choose the beacon, and short enough to be in time.
"""
_EXAMPLES = """\
  ponas selftest
  ponas selftest --device cuda
  ponas selftest --device auto --json
  ponas selftest --genesis genesis.json
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `selftest`."""
    parser = options.add_command(
        subparsers, "selftest", "test whether this machine computes exactly", _ABOUT, _EXAMPLES
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME",
        help="cpu, cpu64, cuda, cuda:N, or auto: all that are here, in a node's order (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--genesis", metavar="FILE", type=Path, help="judge the beacon's delay of this network")
    options.add_json(parser)
    parser.set_defaults(run=_selftest)


def _selftest(arguments: argparse.Namespace) -> int:
    import torch

    from consensus.exact import InexactDevice, self_test
    from consensus.exact.device import GOLDEN

    torch.set_num_threads(1)  # as nodes and miners compute
    beacon = _beacon(arguments.genesis)
    names = [arguments.device]
    if arguments.device == "auto":
        names = (["cuda"] if torch.cuda.is_available() else []) + ["cpu", "cpu64"]
    rows: list[tuple[str, str, bool, float, str]] = []
    for name in names:
        started, reason = time.monotonic(), ""
        try:
            self_test(name)
        except InexactDevice as error:
            reason = str(error)
        rows.append((name, _hardware(name), not reason, time.monotonic() - started, reason))
    chosen = next((name for name, _, passed, _, _ in rows if passed), None)
    if arguments.json:
        print_json({
            "torch": torch.__version__, "threads": torch.get_num_threads(), "golden": GOLDEN, "chosen": chosen,
            "devices": [
                {"device": name, "hardware": hardware, "exact": passed, "seconds": round(seconds, 3), "reason": reason}
                for name, hardware, passed, seconds, reason in rows
            ],
            "beacon": beacon,
        })  # fmt: skip
        return 0 if chosen is not None else 1
    print_rows(
        ("device", "hardware", "exact", "seconds"),
        [(name, hardware, passed, f"{seconds:.2f}") for name, hardware, passed, seconds, _ in rows],
    )
    for *_, reason in rows:
        if reason:
            print(reason)
    print_facts({f"beacon {name.replace('_', ' ')}": value for name, value in beacon.items()})
    print_facts({"torch": f"{torch.__version__}, one thread", "golden training": GOLDEN})
    if chosen is None:
        raise UserError("No device that was tested computes exactly, so none can mine or check results here.")
    print(f"EXACT: {chosen} computes what every node computes.")
    return 0


def _beacon(path: Path | None) -> dict[str, object]:
    """This machine's speed at the delay function, and what that means for the network of the genesis file."""
    from consensus import vdf
    from ponas_node.calibration import calibrate, iterations_per_second
    from ponas_node.cli.node import read_genesis

    parameters = None if path is None else read_genesis(path).consensus
    bits = _DISCRIMINANT_BITS if parameters is None else parameters.vdf_discriminant_bits
    speed = iterations_per_second(vdf.prove, bits)
    facts: dict[str, object] = {"discriminant_bits": bits, "iterations_per_second": round(speed)}
    if parameters is not None:
        found = calibrate(parameters, speed)
        facts |= {
            "iterations": found.iterations,
            "seconds": round(found.seconds, 2),
            "least_seconds": round(found.least_seconds, 2),
            "most_seconds": round(found.most_seconds, 2),
            "long_enough": found.long_enough,
            "in_time": found.in_time,
            "verdict": found.verdict,
        }
    return facts


def _hardware(name: str) -> str:
    """What the device is, as far as the system says."""
    import platform

    import torch

    if not name.startswith("cuda"):
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    try:
        return str(torch.cuda.get_device_name(name))
    except (RuntimeError, AssertionError, ValueError):
        return "not there"
