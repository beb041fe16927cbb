"""ponas pool: a member checks its pool, and an operator looks after one."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ponas_node.cli import options
from ponas_node.cli.errors import FAILURE, USAGE, UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

if TYPE_CHECKING:
    from chain.keys import PrivateKey
    from ponas_node.pool_check import Findings

_EXAMPLES = """\
  ponas pool check --pool http://203.0.113.5:8645 --wallet my.json --node http://127.0.0.1:8645
  ponas pool shares --pool http://203.0.113.5:8645 --wallet my.json
  ponas pool status --data ~/.ponas
  ponas pool preview --data ~/.ponas --payout-scheme proportional --fee-bps 200
  ponas pool ban pn1... --reason "forged trainings" --data ~/.ponas
"""
_SHOWN = 50


def register(subparsers: options.Subparsers) -> None:
    """Add `pool` and its own commands."""
    about = (
        "For members (check, shares): verify entries of the pool's ledger against its signed root, and its payout "
        "tables against what it owes. For the operator (status, members, preview, ban, unban): look after a pool that "
        "runs on this machine, through a socket in its data directory."
    )
    pool = options.add_command(subparsers, "pool", "check a pool as its member, or look after one", about, _EXAMPLES)
    commands = pool.add_subparsers(dest="pool_command", metavar="COMMAND", title="commands", required=True)
    check = _register_member(commands, "check", "verify what the pool owes and pays; exit 1 if it is short", _check)
    check.add_argument("--all", action="store_true", help="replay the whole ledger: is anybody credited with too much?")
    _register_member(commands, "shares", "list the wallet's shares, with state, points and proof", _shares)
    _register_operator(commands, "status", "figures of the pool", _status)
    members = _register_operator(commands, "members", "list the members", _members)
    members.add_argument("--after", metavar="ADDRESS", help="begin behind this address")
    preview = _register_operator(commands, "preview", "the next payout table; a dry run of other terms", _preview)
    preview.add_argument("--payout-scheme", metavar="NAME", help="as if this scheme held from now on")
    preview.add_argument("--window-points", metavar="N", type=int, help="pplns: points of work that a table pays")
    preview.add_argument("--fee-bps", metavar="N", type=int, help="as if the fee were N/10,000")
    preview.add_argument("--fee-address", metavar="ADDRESS", help="who would get the fee")
    preview.add_argument("--minimum-points", metavar="N", type=int, help="as if a line needed so many points")
    ban = _register_operator(commands, "ban", "give a member no more work; what it is owed stays owed", _ban)
    ban.add_argument("address", metavar="ADDRESS")
    ban.add_argument("--reason", metavar="TEXT", required=True, help="why; the member can read it")
    unban = _register_operator(commands, "unban", "let a banned member in again", _unban)
    unban.add_argument("address", metavar="ADDRESS")


def _register_member(commands: options.Subparsers, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    example = f"  ponas pool {name} --pool http://203.0.113.5:8645 --wallet my.json\n"
    parser = options.add_command(commands, name, about, about[:1].upper() + about[1:] + ".", example)
    parser.add_argument("--pool", metavar="URL", required=True, help="the pool's URL, as for `ponas mine`")
    options.add_wallet(parser)
    options.add_passphrase(parser)
    parser.add_argument(
        "--node", metavar="URL", help="a node to ask about the chain, best your own (default: the pool's)"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("ponas-data"),
        help="data directory of `ponas mine`, with the receipts of its shares (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--epochs", metavar="N", type=int, default=8, help="rounds to check (default: %(default)s)")
    options.add_json(parser)
    parser.set_defaults(run=run, all=False)
    return parser


def _register_operator(commands: options.Subparsers, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    example = f"  ponas pool {name} --data ~/.ponas\n"
    parser = options.add_command(commands, name, about, about[:1].upper() + about[1:] + ".", example)
    parser.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("ponas-data"),
        help="data directory of the node that runs the pool (default: %(default)s)",
    )  # fmt: skip
    options.add_json(parser)
    parser.set_defaults(run=run)
    return parser


# ---- members


def _find(arguments: argparse.Namespace, key: PrivateKey) -> Findings:
    from ponas_node.client import NodeClient
    from ponas_node.pool_check import check
    from ponas_node.pool_proofs import CheckFailed

    if arguments.epochs < 1:
        raise UserError(f"--epochs takes a number from 1 on, not {arguments.epochs}.", USAGE)
    folder = arguments.data.expanduser() / "receipts"

    async def ask() -> Findings:
        async with NodeClient(arguments.pool) as pool, NodeClient(arguments.node or arguments.pool) as chain:
            return await check(pool, chain, key, folder, arguments.epochs, arguments.all)

    try:
        return asyncio.run(ask())
    except CheckFailed as error:
        raise UserError(f"The pool does not hold up: {error}.") from error


def _check(arguments: argparse.Namespace) -> int:
    from chain.keys import address_text

    found = _find(arguments, options.unlock(arguments))
    account = found.account
    facts = {
        "member": address_text(account.member),
        "ledger": found.head.size,
        "root": found.head.root.hex(),
        "shares": len(account.shares),
        "contested": len(account.contested),
        "receipts": found.receipts,
        "scheme": account.terms.scheme,
        "fee": f"{account.terms.fee / 100:g} %",
        "scored": account.scored,
        "earned": account.earned,
        "paid": account.paid,
        "carried": account.carried,
        "reserved": account.reserved,
        "refuted": account.refuted,
    }
    rows = [
        (table.epoch, table.result[:16], table.seated, f"{float(table.part):.4%}", f"{float(table.owed):.4%}",
         "SHORT" if table.short else "ok")
        for table in found.tables
    ]  # fmt: skip
    if arguments.json:
        names = ("epoch", "result", "seated", "part", "owed", "verdict")
        tables = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({**facts, "tables": tables, "problems": found.problems})
    else:
        print_facts(facts)
        if rows:
            print_rows(("epoch", "result", "seated", "table pays", "owed", ""), rows)
        for problem in found.problems:
            print_facts({"WARNING": problem})
    return FAILURE if found.problems else 0


def _shares(arguments: argparse.Namespace) -> int:
    from ponas_node.client import NodeClient
    from ponas_node.pool_proofs import rejections

    key = options.unlock(arguments)
    found = _find(arguments, key)

    async def ask() -> list[dict[str, Any]]:
        async with NodeClient(arguments.pool) as pool:
            return await rejections(pool, found.head.network, key)

    rows = [
        (number, entry.signed.share.epoch, entry.signed.share.genotype.hex(), state, entry.points, reason)
        for number, entry, state, reason in found.account.states()
    ]
    refused = [
        ("-", "-", item["genotype"], "rejected", 0, f"{item['code']}: {item['reason']}") for item in asyncio.run(ask())
    ]
    names = ("entry", "epoch", "genotype", "state", "points", "reason")
    if arguments.json:
        print_json({"shares": [dict(zip(names, row, strict=True)) for row in [*rows, *refused]]})
        return 0
    print_rows(names, [*rows[:_SHOWN], *refused])
    if len(rows) > _SHOWN:
        print(f"... and {len(rows) - _SHOWN} earlier ones; --json prints all of them")
    return 0


# ---- the operator


def _ask(arguments: argparse.Namespace, method: str, path: str, **more: Any) -> dict[str, Any]:
    from ponas_node.pool_admin import AdminError, ask_pool

    try:
        return asyncio.run(ask_pool(arguments.data.expanduser() / "pool.sock", method, path, **more))
    except AdminError as error:
        raise UserError(str(error)) from error


def _status(arguments: argparse.Namespace) -> int:
    found = _ask(arguments, "GET", "/status")
    if arguments.json:
        print_json(found)
        return 0
    terms, names = found["terms"], ("scheme", "window", "fee", "operator", "minimum")
    shown = ("epoch", "task_name", "leasing", "members", "members_seen", "shares", "results", "leases",
             "waiting_for_backup", "earned", "paid", "carried", "reserved")  # fmt: skip
    print_facts([(name, found[name]) for name in shown] + [(name, terms[name]) for name in names])
    print_facts([("ledger", found["ledger"]["size"]), *sorted(found["rejected"].items())])
    return 0


def _members(arguments: argparse.Namespace) -> int:
    query = {"limit": "100", **({"after": arguments.after} if arguments.after else {})}
    found = _ask(arguments, "GET", "/members", params=query)["members"]
    names = ("address", "shares", "scored", "earned", "paid", "ban_reason")
    if arguments.json:
        print_json(found)
    else:
        print_rows(names, [tuple(member[name] for name in names) for member in found])
        if len(found) == 100:
            print(f"more: --after {found[-1]['address']}")
    return 0


def _preview(arguments: argparse.Namespace) -> int:
    from ponas_node.pool_config import TERMS

    given = {name: value for name in TERMS if (value := getattr(arguments, name)) is not None}
    lines = _ask(arguments, "POST", "/preview", json=given)["lines"]
    if arguments.json:
        print_json(lines)
    else:
        rows = [(line["address"], line["weight"], f"{line['percent']:.3f} %") for line in lines]
        print_rows(("address", "weight", "part"), rows)
    return 0


def _ban(arguments: argparse.Namespace) -> int:
    print_facts(_ask(arguments, "POST", f"/ban/{quote(arguments.address)}", json={"reason": arguments.reason}))
    return 0


def _unban(arguments: argparse.Namespace) -> int:
    print_facts(_ask(arguments, "POST", f"/unban/{quote(arguments.address)}"))
    return 0
