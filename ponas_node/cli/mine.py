"""`ponas mine`: search architectures, for a pool or alone."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.node import add_node_options, node_config, read_genesis, start
from ponas_node.cli.options import Subparsers, add_command, add_passphrase, add_wallet, unlock
from ponas_node.miner.executor import MOST_SLOTS, STATE_SECONDS

EXAMPLES = """\
  ponas mine --pool http://203.0.113.5:8645 --wallet my.json
  ponas mine --pool http://203.0.113.5:8645 --pool http://198.51.100.7:8645 --wallet my.json --device auto
  ponas mine --pool http://203.0.113.5:8645 --wallet my.json --executor ray --address 192.0.2.10:6379
  ponas mine --pool http://203.0.113.5:8645 --solo --wallet my.json --genesis genesis.json --peer 203.0.113.5:8644
  ponas mine --solo --wallet my.json --genesis genesis.json --peer 203.0.113.5:8644
"""
AUTO = "auto"


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "mine",
        "search architectures for a pool, or alone",
        "Searches architectures. --pool: lease work from a pool and be paid by the coinbases of the blocks that it "
        "wins. --solo: run a full node that searches, seals, reveals and mints by itself; with --pool as well it does "
        "so only while no pool answers. On a terminal, mining for a pool has a live screen.",
        EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--pool", action="append", default=[], metavar="URL",
        help="mine for the pool at this URL (the API of the node that runs it); may be repeated: the next ones stand "
        "in while the first does not answer",
    )  # fmt: skip
    add("--solo", action="store_true", help="mine alone, with a full node; with --pool: while no pool answers")
    add_wallet(parser)
    add_passphrase(parser)
    add_node_options(parser)
    add(
        "--slots", type=_slots, default=None, metavar="N",
        help=f"architectures to train at a time, up to {MOST_SLOTS}: on a CPU each in a process of its own, on a GPU "
        "side by side in one; auto: one for each physical core but one, or as a GPU's memory allows (default: auto)",
    )  # fmt: skip
    add(
        "--executor", choices=("local", "ray"), default="local",
        help="where to train: on this machine, or on a Ray cluster of your own (default: %(default)s)",
    )  # fmt: skip
    add("--address", metavar="HOST:PORT", help="the Ray cluster (default: the one that this machine is a part of)")
    add(
        "--state-seconds", type=_seconds, default=STATE_SECONDS, metavar="S",
        help="keep the state of a training that lasts longer with the pool every so many seconds, so that another "
        "member, or this one after a restart, can go on from there; 0: never (default: %(default)g)",
    )  # fmt: skip
    add("--no-screen", action="store_true", help="log lines instead of the live screen, on a terminal too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Mine."""
    if not arguments.pool and not arguments.solo:
        raise UserError("Say what to mine for: --pool URL, or --solo, or both.", USAGE)
    for url in arguments.pool:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url} is not a URL: write it like http://host:8645.", USAGE)
    if arguments.address is not None and arguments.executor != "ray":
        raise UserError("--address names a Ray cluster: it goes with --executor ray.", USAGE)
    if arguments.executor == "ray" and arguments.solo:
        raise UserError("--solo trains on this machine: leave --executor ray away, or mine for a pool only.", USAGE)
    genesis = read_genesis(arguments.genesis) if arguments.solo else None
    key, seconds = unlock(arguments), arguments.state_seconds or None
    if genesis is not None:
        config = node_config(arguments, "solo", solo=True)
        config = replace(config, slots=arguments.slots, pools=tuple(arguments.pool), state_seconds=seconds)
        return start(config, genesis, key, arguments.verbose)
    from ponas_node.miner.command import make_executor, run_member
    from ponas_node.run import configure_logging

    screen = sys.stdout.isatty() and not arguments.no_screen
    if screen:
        _log_to(arguments.data)
    configure_logging(arguments.verbose)
    executor = make_executor(arguments.executor, arguments.address or AUTO, arguments.slots, arguments.device)
    return asyncio.run(run_member(arguments.pool, key, arguments.data, executor, screen, seconds))


def _slots(text: str) -> int | None:
    if text == AUTO:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SLOTS:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_SLOTS}, or auto, not {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value != 0 and not 1 <= value <= 1e6:  # neither is anything else that is no number
        raise argparse.ArgumentTypeError(f"0, or from 1 to 1000000 seconds, not {text}")
    return value


def _log_to(data: Path) -> None:
    """Send the log to a file: on the terminal it would tear the screen."""
    data.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(data / "miner.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
