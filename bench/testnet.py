"""Runs a fresh testnet and takes its report's figures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--epochs", type=int, default=3, help="epochs to run (default: %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Figures of a testnet of `--epochs` epochs; raises RuntimeError where the network was judged unsound."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "ponas_node.cli.main", "testnet", "--data", f"{folder}/net", "--port", "0"]
        done = subprocess.run(
            [*command, "--epochs", str(options.epochs), "--json", str(report)], stdout=subprocess.DEVNULL
        )
        outcome = json.loads(report.read_text())
    if done.returncode or outcome["problems"]:
        raise RuntimeError(f"the testnet was unsound: {outcome['problems']}")
    figures = ("seconds", "seconds_to_first_member_payment", "epochs", "blocks", "results_revealed",
               "results_reevaluated", "accuracy_by_epoch", "best_accuracy", "seats_won",
               "coinbase_paid_to_pool_members", "reorgs")  # fmt: skip
    return {name: outcome[name] for name in figures}
