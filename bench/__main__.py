"""`python -m bench NAME [--json]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from bench.machine import machine

NAMES = ("consensus", "exact", "fresh", "ledger", "make-table", "pool", "simulate", "testnet")


def main() -> int:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and print the figures.")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in NAMES:
        module = importlib.import_module(_module(name))
        sub = names.add_parser(name, help=module.__doc__)
        sub.add_argument("--json", action="store_true", help="one JSON object on one line")
        module.add_options(sub)
    options = parser.parse_args()
    figures = importlib.import_module(_module(options.name)).run(options)
    outcome = {"name": options.name, "figures": figures, "machine": machine()}
    print(json.dumps(outcome) if options.json else json.dumps(outcome, indent=2))
    return 0


def _module(name: str) -> str:
    return f"bench.{name.replace('-', '_')}"


if __name__ == "__main__":
    sys.exit(main())
