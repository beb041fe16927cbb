"""`python -m bench NAME [--json]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from bench.machine import machine

NAMES = ("exact", "fresh", "pool", "testnet")


def main() -> int:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and print the figures.")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in NAMES:
        module = importlib.import_module(f"bench.{name}")
        sub = names.add_parser(name, help=module.__doc__)
        sub.add_argument("--json", action="store_true", help="one JSON object on one line")
        module.add_options(sub)
    options = parser.parse_args()
    figures = importlib.import_module(f"bench.{options.name}").run(options)
    outcome = {"name": options.name, "figures": figures, "machine": machine()}
    print(json.dumps(outcome) if options.json else json.dumps(outcome, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
