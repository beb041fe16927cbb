"""The consensus against its enemies: how surely forgeries are proven, what networks survive, and whether it is fair."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from bench import consensus_blocks, consensus_detection, consensus_simulated

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "detection": consensus_detection.detection,
    "fraud_proof_cost": consensus_detection.fraud_proof_cost,
    "simulated": consensus_simulated.figures,
    "block_check": consensus_blocks.block_check_ms,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="small samples")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated (default: all)")
    consensus_simulated.add_options(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Figures by part."""
    torch.set_num_threads(1)  # as nodes and miners compute
    figures: dict[str, Any] = {}
    for name in options.part or PARTS:
        figures.update(PARTS[name](options))
    return figures
