"""ponas selftest: does this machine compute exactly?"""

from __future__ import annotations

import argparse
import time

from ponas_node.cli import options
from ponas_node.cli.errors import UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

_ABOUT = """\
Test whether a device computes the integers that every node must agree on: the longest sums of the largest values, sums
that cancel from just below 2^24, convolutions, filters and pools of odd sizes and their gradients, rounding at every
edge, and a small training whose hash is known. Every node runs this at its start. Exit code 0: exact; 1: not, or it
cannot be used.
"""
_EXAMPLES = """\
  ponas selftest
  ponas selftest --device cuda
  ponas selftest --device auto --json
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
    options.add_json(parser)
    parser.set_defaults(run=_selftest)


def _selftest(arguments: argparse.Namespace) -> int:
    import torch

    from consensus.exact import InexactDevice, self_test
    from consensus.exact.device import GOLDEN

    torch.set_num_threads(1)  # as nodes and miners compute
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
        })  # fmt: skip
        return 0 if chosen is not None else 1
    print_rows(
        ("device", "hardware", "exact", "seconds"),
        [(name, hardware, passed, f"{seconds:.2f}") for name, hardware, passed, seconds, _ in rows],
    )
    for *_, reason in rows:
        if reason:
            print(reason)
    print_facts({"torch": f"{torch.__version__}, one thread", "golden training": GOLDEN})
    if chosen is None:
        raise UserError("No device that was tested computes exactly, so none can mine or check results here.")
    print(f"EXACT: {chosen} computes what every node computes.")
    return 0


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
