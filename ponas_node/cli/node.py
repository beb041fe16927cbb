"""`ponas node`: run a full node, with or without a pool."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path

from chain.checkpoints import BadCheckpoint, Checkpoint, Checkpoints, parse_checkpoint
from chain.keys import PrivateKey
from consensus.genesis import Genesis
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.options import Subparsers, add_command, add_passphrase, unlock
from ponas_node.config import NodeConfig
from ponas_node.pool_config import TERMS, BadPoolConfig, PoolOptions, pool_options
from ponas_node.split_keys import BadSplitKeys, SplitKey, read_split_keys
from ponas_node.strategies import NAMES
from pool.search import DEFAULT_STRATEGY

DEFAULT_P2P, DEFAULT_API = 8644, 8645
EXAMPLES = """\
  ponas node --genesis genesis.json --data ~/.ponas --peer 203.0.113.5:8644
  ponas node --genesis genesis.json --data ~/.ponas --peer 203.0.113.5:8644 --wallet my.json --pool
  ponas node --genesis genesis.json --wallet my.json --pool --payout-scheme pplns --window-points 2000000 --fee-bps 100
"""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "node",
        "run a full node, with --pool also a mining pool",
        "Runs a full node. With --wallet it mints in the slots of that wallet's seats, with --pool it also coordinates "
        "member miners.",
        EXAMPLES,
    )
    add_node_options(parser)
    parser.add_argument("--wallet", metavar="FILE", type=Path, help="wallet whose seats this node mints for")
    add_passphrase(parser)
    parser.add_argument(
        "--split-keys", action="append", default=[], type=Path, metavar="FILE",
        help="keys of your sealed test splits, to be shown in their time (needs --wallet); may be repeated",
    )  # fmt: skip
    parser.add_argument("--pool", action="store_true", help="run a mining pool on the API port (needs --wallet)")
    add_pool_options(parser)
    parser.set_defaults(run=run)


def add_pool_options(parser: argparse.ArgumentParser) -> None:
    """The choices of a pool's operator. What is not given comes from --pool-config, or is the default."""
    group = parser.add_argument_group("pool", "for --pool; the same names with _ for - go into --pool-config")
    add = group.add_argument
    add("--pool-config", metavar="FILE", type=Path, help="the pool's options in TOML, such as fee_bps = 100")
    add("--payout-scheme", metavar="NAME", help="proportional (default), or pplns: by the last points of work")
    add("--window-points", metavar="N", type=int, help="pplns: how many points of work a table pays")
    add("--fee-bps", metavar="N", type=int, help="the operator's part of every payout table, in 1/10,000 (default: 0)")
    add("--fee-address", metavar="ADDRESS", help="who gets the fee (default: the pool's wallet)")
    add("--minimum-points", metavar="N", type=int, help="fewest points for a line of a table; less is carried over")


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """Options that everything that is a full node has."""
    add = parser.add_argument
    add("--genesis", metavar="FILE", type=Path, help="genesis file of the network (a full node needs it)")
    add("--data", metavar="DIR", type=Path, default=Path("ponas-data"), help="data directory (default: %(default)s)")
    add("--peer", action="append", default=[], metavar="HOST:PORT", help="a peer to stay connected to; may be repeated")
    add(
        "--checkpoint", action="append", default=[], metavar="HEIGHT:HASH",
        help="a block that you trust: the node follows no branch without it; may be repeated",
    )  # fmt: skip
    add("--p2p-host", metavar="HOST", default="127.0.0.1", help="address to listen on for peers (default: %(default)s)")
    add("--p2p-port", metavar="N", type=int, default=DEFAULT_P2P, help="port for peers (default: %(default)s)")
    add("--api-host", metavar="HOST", default="127.0.0.1", help="address of the HTTP API (default: %(default)s)")
    add("--api-port", metavar="N", type=int, default=DEFAULT_API, help="port of the HTTP API (default: %(default)s)")
    add("--advertise", metavar="HOST:PORT", help="where others reach this node, if that differs")
    add("--device", default="cpu", help="where to evaluate and train: auto, cpu or cuda (default: %(default)s)")
    add(
        "--prover-delay", type=int, default=0, metavar="SLOTS",
        help="slots to wait for somebody else's beacon before computing it; -1: never (default: %(default)s)",
    )  # fmt: skip
    add(
        "--audit-rate", type=int, default=1, metavar="N",
        help="with a key: results of each epoch to train again, drawn at random (default: %(default)s)",
    )  # fmt: skip
    add(
        "--audit-share", type=_share, default=0.0, metavar="PART",
        help="part of the time in which to train others again as well, from 0 to 1 (default: %(default)s)",
    )  # fmt: skip
    add(
        "--strategy", choices=NAMES, default=DEFAULT_STRATEGY,
        help="how a pool or a solo miner chooses what to train next (default: %(default)s)",
    )  # fmt: skip
    add("--verbose", action="store_true", help="log more")


def node_config(arguments: argparse.Namespace, label: str, pool: bool = False, solo: bool = False) -> NodeConfig:
    """The configuration that the options describe."""
    return NodeConfig(
        data=arguments.data, p2p_host=arguments.p2p_host, p2p_port=arguments.p2p_port, api_host=arguments.api_host,
        api_port=arguments.api_port, peers=tuple(arguments.peer), advertise=arguments.advertise,
        device=arguments.device, pool=pool, solo=solo, prover_delay=arguments.prover_delay, label=label,
        strategy=arguments.strategy, checkpoints=_checkpoints(arguments.checkpoint),
        audit_rate=max(0, arguments.audit_rate), audit_share=arguments.audit_share,
    )  # fmt: skip


def _checkpoints(given: list[str]) -> tuple[Checkpoint, ...]:
    try:
        return tuple(Checkpoints(parse_checkpoint(text) for text in given))
    except BadCheckpoint as error:
        raise UserError(f"--checkpoint: {error}.", USAGE) from error


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return share


def read_genesis(path: Path | None) -> Genesis:
    """The genesis file; raises UserError or BadGenesis."""
    if path is None:
        raise UserError(
            "A full node needs --genesis FILE: get it from whoever runs the network, or from a node's /v1/genesis.",
            USAGE,
        )
    try:
        return Genesis.from_json(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The genesis file {path} cannot be read: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not a genesis file: it is not text. Get the network's genesis file again."
        ) from error


def run(arguments: argparse.Namespace) -> int:
    """Run the node."""
    if arguments.pool and arguments.wallet is None:
        raise UserError("--pool needs --wallet: the pool seals, reveals and mints with that key.", USAGE)
    if arguments.split_keys and arguments.wallet is None:
        raise UserError("--split-keys needs --wallet: it pays the fees for showing them.", USAGE)
    genesis, splits = read_genesis(arguments.genesis), _splits(arguments.split_keys)
    key = unlock(arguments) if arguments.wallet is not None else None
    config = node_config(arguments, "pool" if arguments.pool else "node", pool=arguments.pool)
    config = replace(config, splits=splits)
    if arguments.pool:
        config = replace(config, pool_options=_pool_options(arguments))
    return start(config, genesis, key, arguments.verbose)


def _splits(paths: list[Path]) -> tuple[SplitKey, ...]:
    try:
        return tuple(split for path in paths for split in read_split_keys(path.expanduser()))
    except BadSplitKeys as error:
        raise UserError(f"--split-keys: {error}.", USAGE) from error


def _pool_options(arguments: argparse.Namespace) -> PoolOptions:
    given = {name: getattr(arguments, name) for name in TERMS}
    try:
        return pool_options(arguments.pool_config, given)
    except BadPoolConfig as error:
        raise UserError(str(error), USAGE) from error


def start(config: NodeConfig, genesis: Genesis, key: PrivateKey | None, verbose: bool) -> int:
    """Run a full node to its end."""
    from ponas_node.keyfile import BrokenKeyFile
    from ponas_node.node import Node
    from ponas_node.run import configure_logging, run_node

    def ready(node: Node) -> None:
        print(f"ready: http://{config.api_host}:{node.api_port}/", flush=True)

    configure_logging(verbose)
    try:
        return asyncio.run(run_node(config, genesis, key, ready))
    except BrokenKeyFile as error:
        raise UserError(f"{error}.") from error
