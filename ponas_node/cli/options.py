"""Options that several commands share, and what they ask the user."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from ponas_node.cli.errors import USAGE, UserError

DEFAULT_NODE = "http://127.0.0.1:8645"
DEFAULT_WALLET = Path("~/.ponas/wallet.json")
PASSPHRASE_VARIABLE = "PONAS_PASSPHRASE"  # noqa: S105 - a name, not a secret
_MOST_PASSPHRASE = 1024

Subparsers = Any  # argparse names the type of its subparsers in private


def add_command(
    subparsers: Subparsers, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A command's parser: `summary` for the list of commands, `examples` at the end of its own help."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_node(parser: argparse.ArgumentParser) -> None:
    """--node"""
    parser.add_argument(
        "--node", metavar="URL", default=DEFAULT_NODE, help="API of the node to ask (default: %(default)s)"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """--out"""
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="file to write; must not exist yet")


def out_path(arguments: argparse.Namespace) -> Path:
    """The file that --out names. Raises UserError where it cannot be written: better now than after the work."""
    path: Path = arguments.out.expanduser()
    if path.exists():
        raise UserError(f"{path} exists already and was left as it is: choose another name with --out.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent}: choose another with --out.", USAGE)
    return path


def find_id(text: str) -> str | None:
    """The id that `text` is, 64 hexadecimal digits, or None where it has not the form of one."""
    id = text.strip().lower()
    return id if len(id) == 64 and set(id) <= set("0123456789abcdef") else None


def parse_id(text: str, what: str) -> bytes:
    """The 32 bytes of an id. Raises UserError where `text` is none; `what` names where it was given."""
    id = find_id(text)
    if id is None:
        raise UserError(f"{what} must be an id of 64 hexadecimal digits, not {text[:80]!r}.", USAGE)
    return bytes.fromhex(id)


def add_wallet(parser: argparse.ArgumentParser) -> None:
    """--wallet"""
    parser.add_argument(
        "--wallet", metavar="FILE", type=Path, default=DEFAULT_WALLET, help="wallet file (default: %(default)s)"
    )


def add_passphrase(parser: argparse.ArgumentParser) -> None:
    """--passphrase-file"""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", type=Path,
        help=f"read the wallet's passphrase from the first line of FILE; else from the environment variable "
        f"{PASSPHRASE_VARIABLE}, else it is asked for",
    )  # fmt: skip


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json"""
    parser.add_argument("--json", action="store_true", help="print the node's whole answer as JSON, for programs")


def add_yes(parser: argparse.ArgumentParser) -> None:
    """--yes"""
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def wallet_path(arguments: argparse.Namespace) -> Path:
    """The wallet file that --wallet names."""
    path: Path = arguments.wallet
    return path.expanduser()


def read_passphrase(arguments: argparse.Namespace, prompt: str, confirm: bool = False) -> str:
    """The passphrase from file, environment or keyboard; `confirm` has it typed twice. Raises UserError."""
    path: Path | None = arguments.passphrase_file
    if path is not None:
        return _passphrase_of(path)
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    if not sys.stdin.isatty():
        raise UserError(
            "The wallet needs a passphrase and there is no terminal to ask for it: "
            f"use --passphrase-file, or set {PASSPHRASE_VARIABLE}.", USAGE,
        )  # fmt: skip
    try:
        passphrase = getpass.getpass(prompt)
        if confirm and getpass.getpass("The same again: ") != passphrase:
            raise UserError("The two passphrases differ; nothing was written. Try again.", USAGE)
    except EOFError as error:
        raise UserError("No passphrase was given; nothing was done.", USAGE) from error
    return passphrase


def _passphrase_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(_MOST_PASSPHRASE + 1).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"The passphrase file {path} is not text in UTF-8.", USAGE) from error
    except OSError as error:
        raise UserError(
            f"The passphrase file {path} cannot be read: {error.strerror}. Check the path.", USAGE
        ) from error
    if not line or len(line) > _MOST_PASSPHRASE:
        raise UserError(f"The first line of {path} must be a passphrase of 1 to {_MOST_PASSPHRASE} characters.", USAGE)
    return line


def unlock(arguments: argparse.Namespace) -> Any:
    """The key in the wallet that --wallet names; asks for the passphrase where it needs one. Raises WalletError."""
    from ponas_node.wallet import read_wallet

    wallet = read_wallet(wallet_path(arguments))
    if not wallet.encrypted:
        return wallet.open()
    return wallet.open(read_passphrase(arguments, f"Passphrase of {wallet.path}: "))


def confirm(arguments: argparse.Namespace, question: str) -> None:
    """Go on only where --yes was given or the user types yes. Raises UserError."""
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UserError(
            "This needs a confirmation and there is no terminal to ask for it: look at it and add --yes.", USAGE
        )
    try:
        answer = input(f"{question} [yes/no] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("Not confirmed; nothing was sent.")
