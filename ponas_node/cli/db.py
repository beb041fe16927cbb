"""`ponas db`: look after a node's database while the node is stopped."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ponas_node.cli import db_commands as do
from ponas_node.cli import options
from ponas_node.cli.errors import UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

Answer = dict[str, Any]

_MOST_WORKERS = 256
_WHERE = "--genesis genesis.json --data ~/.ponas"


def register(subparsers: options.Subparsers) -> None:
    """Add `db` and its own commands."""
    about = "Looks after the database of a node. The node must be stopped: a database has one user at a time."
    examples = f"  ponas db verify {_WHERE}\n  ponas db export {_WHERE} --out chain.ponas\n"
    parser = options.add_command(subparsers, "db", "check, export, import or repair a node's database", about, examples)
    commands = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    _add(commands, "stats", "show what the database holds", "", do.stats)
    check = _add(commands, "verify", "compute everything again from the raw blocks and say what differs", "", do.verify)
    check.add_argument(
        "--facts", action="store_true",
        help="also evaluate every revealed model and check every beacon once more; needs the folder artifacts",
    )  # fmt: skip
    _add_workers(check)
    _add(commands, "reindex", "build the indexes again from blocks and state", "", do.reindex)
    _add(commands, "compact", "give disk space back that deleted records still take", "", do.compact)
    _add(commands, "repair", "save what is sound of a damaged database", "", do.repair)
    options.add_out(_add(commands, "export", "write the chain to a file", "--out chain.ponas", do.export))
    source = _add(commands, "import", "take the blocks of a file that export wrote", "chain.ponas", do.import_blocks)
    source.add_argument("file", metavar="FILE", type=Path, help="file that `ponas db export` wrote")
    _add_workers(source)
    snapshot = _add(commands, "snapshot", "write the state to a file", "--out state.ponas", do.snapshot)
    options.add_out(snapshot)
    snapshot.add_argument(
        "--height", metavar="N", type=int,
        help="the state after this block (default: the last block that no reorganisation can reach any more)",
    )  # fmt: skip
    restore = _add(commands, "restore", "make a database of a state", "state.ponas --block ID", do.restore)
    restore.add_argument("file", metavar="FILE", type=Path, help="file that `ponas db snapshot` wrote")
    restore.add_argument(
        "--block", metavar="ID", required=True, help="id of the block whose state it must be, from a source you trust"
    )


def _add(
    commands: options.Subparsers, name: str, about: str, arguments: str, run: Callable[[argparse.Namespace], Answer]
) -> argparse.ArgumentParser:
    example = f"  ponas db {name} {f'{arguments} ' if arguments else ''}{_WHERE}\n"
    parser = options.add_command(commands, name, about, about.capitalize() + ".", example)
    parser.add_argument("--genesis", metavar="FILE", type=Path, help="genesis file of the network")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("ponas-data"), help="data directory (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, for programs")
    parser.set_defaults(run=lambda given: _run(given, run))
    return parser


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", metavar="N", type=_workers, default=max(0, (os.cpu_count() or 1) - 1),
        help="processes that verify signatures beside this one (default: one per core, less this one's)",
    )  # fmt: skip


def _workers(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {_MOST_WORKERS}")
    return int(text)


def _run(arguments: argparse.Namespace, command: Callable[[argparse.Namespace], Answer]) -> int:
    from chain.frames import BadFile
    from chain.snapshot import OutOfReach
    from ponas_node.database.feeding import Stopped
    from ponas_node.database.repairing import Hopeless

    arguments.data = arguments.data.expanduser()
    try:
        answer = command(arguments)
    except (BadFile, OutOfReach, Stopped, Hopeless) as error:
        raise UserError(str(error)) from error
    if arguments.json:
        print_json(answer)
    else:
        _print(answer)
    return 0 if answer.get("ok", True) else 1


def _print(answer: Answer) -> None:
    lists = {name: value for name, value in answer.items() if isinstance(value, list)}
    print_facts({
        name.replace("_", " "): value for name, value in answer.items() if not isinstance(value, list | dict)
    })  # fmt: skip
    for name, lines in lists.items():
        if lines:
            print(f"\n{name}:")
            for line in lines:
                print_facts({"-": line})
    if "parts" in answer:
        print()
        print_rows(
            ("record", "entries", "bytes"),
            [(name, part["entries"], part["bytes"]) for name, part in answer["parts"].items()],
        )
