"""`ponas mine`: search architectures, for a pool or alone."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace

from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.node import add_node_options, node_config, read_genesis, start
from ponas_node.cli.options import Subparsers, add_command, add_passphrase, add_wallet, unlock

EXAMPLES = """\
  ponas mine --pool http://203.0.113.5:8645 --wallet my.json
  ponas mine --pool http://203.0.113.5:8645 --wallet my.json --device cuda --together 4
  ponas mine --solo --wallet my.json --genesis genesis.json --peer 203.0.113.5:8644
"""
MOST_TOGETHER = 32


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "mine",
        "search architectures for a pool, or alone",
        "Searches architectures. --pool: lease work from a pool and be paid by the coinbases of the blocks that it "
        "wins. --solo: run a full node that searches, seals, reveals and mints by itself.",
        EXAMPLES,
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--pool", metavar="URL", help="mine for the pool at this URL (the API of the node that runs it)")
    how.add_argument("--solo", action="store_true", help="mine alone, with a full node")
    add_wallet(parser)
    add_passphrase(parser)
    add_node_options(parser)
    parser.add_argument(
        "--together", type=int, default=1, metavar="N",
        help=f"architectures to train side by side, up to {MOST_TOGETHER}; more than one is for a GPU, which a small "
        "network does not fill (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Mine."""
    if arguments.pool is not None and not arguments.pool.startswith(("http://", "https://")):
        raise UserError(f"{arguments.pool} is not a URL: write it like http://host:8645.", USAGE)
    if not 1 <= arguments.together <= MOST_TOGETHER:
        raise UserError(f"--together takes a number from 1 to {MOST_TOGETHER}, not {arguments.together}.", USAGE)
    genesis = read_genesis(arguments.genesis) if arguments.solo else None
    key = unlock(arguments)
    if genesis is not None:
        config = replace(node_config(arguments, "solo", solo=True), together=arguments.together)
        return start(config, genesis, key, arguments.verbose)
    from ponas_node.miner.member import run_member
    from ponas_node.run import configure_logging

    configure_logging(arguments.verbose)
    return asyncio.run(run_member(arguments.pool, key, arguments.data, arguments.device, arguments.together))
