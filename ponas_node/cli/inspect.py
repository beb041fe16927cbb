"""ponas inspect: blocks, transactions, epochs, results and accounts, as a node knows them."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from ponas_node.cli import options, proof
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

Answer = dict[str, Any]

_EXAMPLES = """\
  ponas inspect block 12
  ponas inspect tx ID --json
  ponas inspect epoch current
  ponas inspect result ID --node http://127.0.0.1:8645
  ponas inspect account pn1...
  ponas inspect proof account pn1... --block ID
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `inspect` and its own commands."""
    about = "Look at the chain through the API of a node."
    inspect = options.add_command(subparsers, "inspect", "look at the chain through a node", about, _EXAMPLES)
    commands = inspect.add_subparsers(dest="what", metavar="WHAT", title="what to look at", required=True)
    for what, (path, metavar, about, example, _) in _KINDS.items():
        kind = options.add_command(
            commands, what, about, about.capitalize() + ".", f"  ponas inspect {what} {example}\n"
        )
        kind.add_argument("name", metavar=metavar, help=_HELP[metavar])
        options.add_node(kind)
        options.add_json(kind)
        kind.set_defaults(run=_inspect, path=path)
    proof.register(commands)


def _inspect(arguments: argparse.Namespace) -> int:
    from ponas_node.client import NodeClient

    name: str = arguments.name.strip()
    if not (name.isascii() and name.isalnum()):
        raise UserError(f"{name!r} is no height, id or address: those consist of letters and digits.", USAGE)

    async def ask() -> Answer:
        async with NodeClient(arguments.node) as client:
            return await client.get(f"{arguments.path}/{name}")

    answer = asyncio.run(ask())
    if arguments.json:
        print_json(answer)
        return 0
    try:
        _KINDS[arguments.what][4](answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "The node's answer lacks something: it may be of another version. Use --json to see it."
        ) from error
    return 0


def _pick(answer: Answer, *names: str) -> Answer:
    return {name.replace("_text", "").replace("_", " "): answer[name] for name in names}


def _block(answer: Answer) -> None:
    print_facts(_pick(
        answer, "id", "height", "slot", "parent", "minter_address", "seat", "state_root", "bytes", "on_best_chain",
        "confirmations",
    ))  # fmt: skip
    print()
    rows = [(entry["id"][:16], entry["kind"], entry["sender"], entry["fee_text"]) for entry in answer["transactions"]]
    print_rows(("transaction", "kind", "sender", "fee"), rows)


def _transaction(answer: Answer) -> None:
    print_facts(_pick(answer, "id", "kind", "status", "sender", "nonce", "fee_text", "bytes"))
    if answer["status"] == "confirmed":
        print_facts(_pick(answer, "block", "height", "index", "confirmations"))
    print()
    body = answer["body"]
    outputs = body.pop("outputs", None)
    print_facts({name: value for name, value in body.items() if not isinstance(value, list | dict)})
    if outputs is not None:
        print_rows(("to", "amount"), [(output["address"], output["amount"]) for output in outputs])


def _epoch(answer: Answer) -> None:
    print_facts(_pick(
        answer, "number", "task_name", "task", "phase", "bounty_text", "baseline_correct", "commits", "results",
        "sealed", "key", "beacon", "seed", "settled", "void",
    ))  # fmt: skip
    print()
    print_rows(
        ("rank", "result", "correct", "MACs", "seated", "owner"),
        [
            (
                place,
                entry["id"][:16],
                f"{entry['correct']}/{entry['total']}",
                entry["macs"],
                entry["seated"],
                entry["owner"],
            )
            for place, entry in [*enumerate(answer["ranking"], start=1), *(("revoked", e) for e in answer["revoked"])]
        ],
    )


def _result(answer: Answer) -> None:
    print_facts(_pick(
        answer, "id", "epoch", "task_name", "owner", "genotype", "architecture", "correct", "total", "parameters",
        "macs", "seated", "revoked", "reward_text", "bond_text", "challenge_closes", "height", "seed", "model",
        "model_bytes", "model_here",
    ))  # fmt: skip
    print()
    print_rows(("leaf", "hash"), list(enumerate(answer["leaves"])))
    print()
    print_rows(("paid to", "weight"), [(payout["address"], payout["weight"]) for payout in answer["payouts"]])


def _account(answer: Answer) -> None:
    print_facts(_pick(answer, "address", "balance_text", "immature_text", "nonce", "next_nonce"))
    print()
    rows = [(entry["height"], entry["id"][:16], entry["kind"], entry["fee_text"]) for entry in answer["transactions"]]
    print_rows(("height", "transaction", "kind", "fee"), rows)


_HELP = {
    "HEIGHT|ID": "height of the block, or its id of 64 digits",
    "ID": "id of 64 hexadecimal digits",
    "NUMBER": 'number of the epoch, or "current"',
    "ADDRESS": "address, pn1...",
}
_KINDS = {
    "block": ("/v1/blocks", "HEIGHT|ID", "show a block and its transactions", "12", _block),
    "tx": ("/v1/transactions", "ID", "show a transaction", "ID", _transaction),
    "epoch": ("/v1/epochs", "NUMBER", "show an epoch and its best results", "current", _epoch),
    "result": ("/v1/results", "ID", "show a result with all its checkpoints", "ID", _result),
    "account": ("/v1/accounts", "ADDRESS", "show an account and its last transactions", "pn1...", _account),
}
