"""`ponas inspect proof`: ask a node for a proof, or read one from a file, and check it here."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from chain.errors import BadEncoding
from chain.keys import parse_address
from chain.proofs import MAX_PROOF, BadProof, StateProof, proven
from consensus.claims import KINDS, keys_of, read_claim
from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_json

Answer = dict[str, Any]

_EXAMPLES = """\
  ponas inspect proof account pn1... --block ID
  ponas inspect proof seat ID --node http://127.0.0.1:8645 --out seat.json
  ponas inspect proof --file seat.json --block ID
"""


def register(commands: options.Subparsers) -> None:
    """Add `proof` to the things to look at."""
    about = (
        "Has a node prove what the state holds, present or absent, and checks the proof here. It shows what is true "
        "after the block of its header; that this block is on the chain is what --block says."
    )
    parser = options.add_command(commands, "proof", "prove an account, task, commit, result or seat", about, _EXAMPLES)
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="address of the account, or id of the other")
    parser.add_argument("--block", metavar="ID", help="id of the block that you trust; the proof must be of it")
    parser.add_argument("--file", metavar="FILE", type=Path, help="check the proof in FILE and ask no node")
    parser.add_argument("--out", metavar="FILE", type=Path, help="keep the proof in FILE; must not exist yet")
    options.add_node(parser)
    options.add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Get a proof, check it, say what it shows."""
    if (arguments.file is None) != (arguments.kind is not None and arguments.name is not None):
        raise UserError("Say what to prove (KIND and NAME), or give --file FILE with a proof.", USAGE)
    trusted = None if arguments.block is None else options.parse_id(arguments.block, "--block")
    out = None if arguments.out is None else options.out_path(arguments)
    answer = _read(arguments.file) if arguments.file is not None else _ask(arguments)
    kind, name, claim, header = _check(answer, trusted)
    if arguments.kind is not None and (kind, name) != (arguments.kind, arguments.name.strip()):
        raise UserError(f"The node sent a proof of {kind} {name}, not of what was asked for: use another node.")
    if out is not None:
        out.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    shown = {"kind": kind, "name": name, "block": header.id.hex(), "height": header.height}
    if arguments.json:
        print_json({**shown, "trusted": trusted is not None, "claim": claim})
        return 0
    print_facts(shown)
    print()
    print_facts({field.replace("_", " "): value for field, value in claim.items() if field != "payouts"})
    print()
    if trusted is None:
        print(
            "The proof is right for this block. Whether the block is the network's is not proven: compare its id with "
            "one from a source that you trust, or give that one with --block."
        )
    else:
        print("Proven for the block that you trust.")
    return 0


def _ask(arguments: argparse.Namespace) -> Answer:
    from ponas_node.client import NodeClient

    name = arguments.name.strip()
    if arguments.kind == "account":
        parse_address(name)
    else:
        options.parse_id(name, "NAME")

    async def ask() -> Answer:
        async with NodeClient(arguments.node) as client:
            return await client.get(f"/v1/proofs/{arguments.kind}/{name}")

    return asyncio.run(ask())


def _read(path: Path) -> Answer:
    with path.expanduser().open("rb") as file:
        data = file.read(3 * MAX_PROOF)
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no proof: it is not JSON.") from error
    if not isinstance(answer, dict):
        raise UserError(f"{path} holds no proof: it is no JSON object.")
    return answer


def _check(answer: Answer, trusted: bytes | None) -> tuple[str, str, Answer, Any]:
    """Kind, name, claim and header of what `answer` proves; nothing in it but the proof's bytes is believed."""
    kind, name, text = answer.get("kind"), answer.get("name"), answer.get("proof")
    if kind not in KINDS or not isinstance(name, str) or not isinstance(text, str):
        raise UserError("This is no proof: it lacks kind, name or proof.")
    subject = parse_address(name) if kind == "account" else options.parse_id(name, "The proof's name")
    try:
        proof = StateProof.decode(bytes.fromhex(text), MAX_PROOF)
        state = proven(proof, proof.header.id if trusted is None else trusted)
        for key in keys_of(kind, subject):
            state.get(key)
        claim = read_claim(kind, subject, state)
    except (BadEncoding, BadProof, ValueError) as error:
        raise UserError(f"The proof does not hold: {error}. Ask another node.") from error
    return kind, name, claim, proof.header
