"""What a stranger waits: clone, install, and run until the first coinbase that pays a pool member."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--epochs", type=int, default=1, help="epochs to run (default: %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Seconds of each step in a fresh clone of the committed state; raises CalledProcessError where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        clone, report = Path(folder) / "clone", Path(folder) / "report.json"
        started = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(clone)], check=True)
        arguments = f"ARGS=--epochs {options.epochs} --json {report} --port 0"
        subprocess.run(["make", "testnet", arguments], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        total = time.monotonic() - started
        outcome = json.loads(report.read_text())
    install = total - outcome["seconds"]
    return {
        "install_seconds": round(install, 1),
        "seconds_to_first_member_payment": round(install + outcome["seconds_to_first_member_payment"], 1),
        "seconds": round(total, 1),
        "problems": outcome["problems"],
    }
