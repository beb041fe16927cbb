"""ponas audit: train somebody's result again, and challenge it on the chain where it is forged."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli import options
from ponas_node.cli.claim import Claim, fetch_claim, network_and_data
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.train import add_device, exact_device, progress_bar, recipe_of
from ponas_node.cli.wallet import add_genesis

if TYPE_CHECKING:
    from chain.keys import PrivateKey
    from consensus.types import ChallengeBody

_ABOUT = """\
Train a result again and compare every checkpoint with what its owner claimed. Where one differs, --file challenges the
result: every node then replays that one segment, the result is revoked, and half of what its owner loses is yours. A
challenge of a true result would cost you the deposit; this command sends none. A node with a wallet does all of this by
itself (see --audit-rate of ponas node).
Exit code 0: the result is true; 1: it is forged, or it could not be audited.
"""
_EXAMPLES = """\
  ponas audit RESULT_ID
  ponas audit RESULT_ID --device auto --node http://127.0.0.1:8645
  ponas audit RESULT_ID --file --wallet my.json --data ~/.ponas
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `audit`."""
    parser = options.add_command(subparsers, "audit", "train a result again, challenge a forgery", _ABOUT, _EXAMPLES)
    parser.add_argument("result", metavar="RESULT", help="id of a result, 64 hexadecimal digits")
    parser.add_argument("--file", action="store_true", help="challenge the result where it is forged")
    parser.add_argument(
        "--data", metavar="DIR", type=Path,
        help="data directory of your own node, for --file: others fetch the state before the false segment from there",
    )  # fmt: skip
    parser.add_argument("--fee", metavar="AMOUNT", help="fee in PONAS (default: the least that the network takes)")
    options.add_wallet(parser)
    options.add_passphrase(parser)
    options.add_node(parser)
    add_genesis(parser)
    options.add_yes(parser)
    add_device(parser)
    parser.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from consensus.types import ChallengeBody
    from ponas_node.cli.publish import node_artifacts

    id = options.find_id(arguments.result)
    if id is None:
        raise UserError(f"{arguments.result!r} is not the id of a result, which has 64 hexadecimal digits.", USAGE)
    if arguments.file and arguments.data is None:
        raise UserError("--file needs --data: the data directory of your own node.", USAGE)
    artifacts = node_artifacts(arguments.data) if arguments.file else None
    key: Any = options.unlock(arguments) if arguments.file else None
    device = exact_device(arguments.device)
    claim = asyncio.run(fetch_claim(arguments.node, id))
    segment, state = _train_again(claim, device)
    if segment < 0:
        print(f"TRUE: all {len(claim.leaves)} leaves of {claim.name} are those of its recipe.")
        return 0
    print(f"FORGED: segment {segment} of {claim.name} does not lead from leaf {segment} to leaf {segment + 1}.")
    if artifacts is not None:
        body = ChallengeBody(bytes.fromhex(id), segment, artifacts.put(state) if state else b"", len(state))
        asyncio.run(_file(arguments, key, body))
    return 1


def _train_again(claim: Claim, device: str) -> tuple[int, bytes]:
    """The first false segment, or -1, and the state before it."""
    from consensus import exact
    from ponas_node.replays import audit_training

    graph, data = network_and_data(claim)
    recipe = recipe_of(claim.spec)
    run = audit_training(exact.Candidate(graph, data, recipe, claim.seed), claim.leaves, device)
    with progress_bar("auditing", recipe.steps) as step:
        while True:
            try:
                step(next(run))
            except StopIteration as end:
                segment, state = end.value
                return int(segment), bytes(state)


async def _file(arguments: argparse.Namespace, key: PrivateKey, body: ChallengeBody) -> None:
    from chain.types import Kind
    from ponas_node.cli.transactions import fetch_genesis, make_transaction
    from ponas_node.client import NodeClient
    from ponas_node.units import format_amount, parse_amount

    fee = None if arguments.fee is None else parse_amount(arguments.fee)
    async with NodeClient(arguments.node) as client:
        genesis = await fetch_genesis(client, arguments.genesis)
        deposit = genesis.consensus.challenge_deposit
        transaction = await make_transaction(client, genesis, key, Kind.CHALLENGE, body, fee, deposit)
        print_facts({"fee": format_amount(transaction.fee), "deposit, kept by you": format_amount(deposit)})
        options.confirm(arguments, "Challenge it?")
        status = await client.send(transaction)
    print_facts({"transaction": transaction.id.hex(), "status": status})
