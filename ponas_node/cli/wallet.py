"""ponas wallet: make a wallet, look at it, and send coins."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_json

if TYPE_CHECKING:
    from chain.keys import PrivateKey
    from chain.types import TransferBody

_EXAMPLES = """\
  ponas wallet new
  ponas wallet new --wallet miner.json --passphrase-file secret.txt
  ponas wallet show --wallet miner.json
  ponas wallet balance --node http://127.0.0.1:8645
  ponas wallet send pn1... 1.5
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `wallet` and its own commands."""
    about = "A wallet is a file with one key. Whoever holds the file and its passphrase holds the coins: keep a backup."
    wallet = options.add_command(subparsers, "wallet", "make a wallet, look at it, send coins", about, _EXAMPLES)
    commands = wallet.add_subparsers(dest="wallet_command", metavar="COMMAND", title="commands", required=True)
    _register_new(commands)
    _register_show(commands)
    _register_balance(commands)
    _register_send(commands)


def _register_new(commands: options.Subparsers) -> None:
    about = "Make a new key and write it to a file that does not exist yet, encrypted with a passphrase."
    examples = "  ponas wallet new\n  ponas wallet new --wallet test.json --no-encryption\n"
    new = options.add_command(commands, "new", "make a wallet", about, examples)
    options.add_wallet(new)
    options.add_passphrase(new)
    new.add_argument(
        "--no-encryption", action="store_true", help="write the key as it is: for tests and unattended machines only"
    )
    new.set_defaults(run=_new)


def _register_show(commands: options.Subparsers) -> None:
    about = "Print address and public key. Needs no passphrase."
    show = options.add_command(commands, "show", "print the address", about, "  ponas wallet show\n")
    options.add_wallet(show)
    options.add_json(show)
    show.set_defaults(run=_show)


def _register_balance(commands: options.Subparsers) -> None:
    about = "Ask a node what the wallet's address holds. Needs no passphrase."
    examples = "  ponas wallet balance\n  ponas wallet balance --address pn1...\n"
    balance = options.add_command(commands, "balance", "print the balance", about, examples)
    options.add_wallet(balance)
    balance.add_argument("--address", metavar="ADDRESS", help="ask for this address instead of the wallet's")
    options.add_node(balance)
    options.add_json(balance)
    balance.set_defaults(run=_balance)


def _register_send(commands: options.Subparsers) -> None:
    about = "Send coins to an address. Shows what will be sent and asks, unless --yes is given."
    examples = "  ponas wallet send pn1... 1.5\n  ponas wallet send pn1... 0.25 --fee 0.001 --yes\n"
    send = options.add_command(commands, "send", "send coins", about, examples)
    send.add_argument("to", metavar="ADDRESS", help="who gets the coins")
    send.add_argument("amount", metavar="AMOUNT", help="how much, in PONAS, such as 1.5")
    send.add_argument("--fee", metavar="AMOUNT", help="fee in PONAS (default: the least that the network takes)")
    options.add_wallet(send)
    options.add_passphrase(send)
    options.add_node(send)
    add_genesis(send)
    options.add_yes(send)
    send.set_defaults(run=_send)


def add_genesis(parser: argparse.ArgumentParser) -> None:
    """--genesis"""
    parser.add_argument(
        "--genesis", metavar="FILE", type=Path, help="refuse to sign unless the node is of this genesis file's network"
    )


def _new(arguments: argparse.Namespace) -> int:
    from chain.keys import address_text
    from ponas_node.wallet import WalletExists, create_wallet

    path = options.wallet_path(arguments)
    if path.exists():  # told before a passphrase is asked for; create_wallet makes sure of it
        raise WalletExists(f"{path} exists already and was left as it is: choose another name with --wallet.")
    passphrase = None
    if arguments.no_encryption:
        print("Warning: this wallet is NOT encrypted. Whoever can read the file can take the coins.", file=sys.stderr)
    else:
        passphrase = options.read_passphrase(arguments, f"Passphrase for {path}: ", confirm=True)
    wallet = create_wallet(path, passphrase)
    print_facts({"wallet": path, "address": address_text(wallet.address), "encryption": wallet.encryption})
    if passphrase is not None:
        print("Keep a copy of the file, and the passphrase: nobody can restore either of them.", file=sys.stderr)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from chain.keys import address_text
    from ponas_node.wallet import read_wallet

    wallet = read_wallet(options.wallet_path(arguments))
    facts = {
        "address": address_text(wallet.address),
        "public_key": wallet.public.hex(),
        "encryption": wallet.encryption,
        "wallet": str(wallet.path),
    }
    (print_json if arguments.json else print_facts)(facts)
    return 0


def _balance(arguments: argparse.Namespace) -> int:
    from chain.keys import address_text, parse_address
    from ponas_node.client import NodeClient
    from ponas_node.wallet import read_wallet

    given = arguments.address
    address = parse_address(given) if given else read_wallet(options.wallet_path(arguments)).address

    async def ask() -> int:
        async with NodeClient(arguments.node) as client:
            account = await client.get(f"/v1/accounts/{address_text(address)}")
        if arguments.json:
            print_json(account)
            return 0
        print_facts({
            "address": account["address"],
            "balance": account["balance_text"],
            "immature": account["immature_text"],
            "waiting": len(account["pending"]) or None,
            "at height": account["height"],
        })  # fmt: skip
        return 0

    return asyncio.run(ask())


def _send(arguments: argparse.Namespace) -> int:
    from chain.keys import parse_address
    from chain.types import Output, TransferBody
    from ponas_node.units import parse_amount

    target, amount = parse_address(arguments.to), parse_amount(arguments.amount)
    if not amount:
        raise UserError("The amount must be more than nothing.", USAGE)
    fee = None if arguments.fee is None else parse_amount(arguments.fee)
    key = options.unlock(arguments)
    return asyncio.run(_transfer(arguments, key, TransferBody((Output(target, amount),)), fee))


async def _transfer(arguments: argparse.Namespace, key: PrivateKey, body: TransferBody, fee: int | None) -> int:
    from chain.keys import address_text
    from chain.types import Kind
    from ponas_node.cli.transactions import fetch_genesis, make_transaction
    from ponas_node.client import NodeClient
    from ponas_node.units import format_amount

    [output] = body.outputs
    async with NodeClient(arguments.node) as client:
        genesis = await fetch_genesis(client, arguments.genesis)
        transaction = await make_transaction(client, genesis, key, Kind.TRANSFER, body, fee, output.amount)
        print_facts({
            "network": f"{genesis.name} ({genesis.network.hex()[:16]})",
            "from": address_text(key.address),
            "to": address_text(output.address),
            "amount": format_amount(output.amount),
            "fee": format_amount(transaction.fee),
        })  # fmt: skip
        options.confirm(arguments, "Send it?")
        status = await client.send(transaction)
        print_facts({"transaction": transaction.id.hex(), "status": status})
    return 0
