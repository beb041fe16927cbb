"""`ponas db`: look after a node's database while the node is stopped."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.node import read_genesis
from ponas_node.cli.output import print_facts, print_json, print_rows

if TYPE_CHECKING:
    from chain.store import Store
    from consensus.genesis import Genesis

Answer = dict[str, Any]

_WHERE = "--genesis genesis.json --data ~/.ponas"
_MINTER_WARNING = (
    "Records of a pool, a search or the minter may be lost. If this node mints, wait for the next epoch before you "
    "start it, so that it cannot sign a second block for a slot."
)
_RESTORED = "It cannot undo that block, and it has no earlier blocks and histories to show or to give to peers."
_EVERY = 2.0  # seconds between two lines of progress


def register(subparsers: options.Subparsers) -> None:
    """Add `db` and its own commands."""
    about = "Looks after the database of a node. The node must be stopped: a database has one user at a time."
    examples = f"  ponas db verify {_WHERE}\n  ponas db export {_WHERE} --out chain.ponas\n"
    parser = options.add_command(subparsers, "db", "check, export, import or repair a node's database", about, examples)
    commands = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    _add(commands, "stats", "show what the database holds", "", _stats)
    check = _add(commands, "verify", "compute everything again from the raw blocks and say what differs", "", _verify)
    check.add_argument(
        "--facts", action="store_true",
        help="also evaluate every revealed model and check every beacon once more; needs the folder artifacts",
    )  # fmt: skip
    _add(commands, "reindex", "build the indexes again from blocks and state", "", _reindex)
    _add(commands, "compact", "give disk space back that deleted records still take", "", _compact)
    _add(commands, "repair", "save what is sound of a damaged database", "", _repair)
    options.add_out(_add(commands, "export", "write the chain to a file", "--out chain.ponas", _export))
    source = _add(commands, "import", "take the blocks of a file that export wrote", "chain.ponas", _import)
    source.add_argument("file", metavar="FILE", type=Path, help="file that `ponas db export` wrote")
    snapshot = _add(commands, "snapshot", "write the state to a file", "--out state.ponas", _snapshot)
    options.add_out(snapshot)
    snapshot.add_argument(
        "--height", metavar="N", type=int,
        help="the state after this block (default: the last block that no reorganisation can reach any more)",
    )  # fmt: skip
    restore = _add(commands, "restore", "make a database of a state", "state.ponas --block ID", _restore)
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


class _Progress:
    """Says on standard error, now and then, how far a long command has come."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _EVERY

    def __call__(self, done: int, most: int = 0) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            print(f"{self._what}: {done}{f' of {most}' if most else ''}", file=sys.stderr, flush=True)


def _genesis(arguments: argparse.Namespace) -> Genesis:
    if arguments.genesis is None:
        raise UserError("The database's network must be known: give its genesis file with --genesis FILE.", USAGE)
    return read_genesis(arguments.genesis)


def _open(arguments: argparse.Namespace, create: bool = False) -> tuple[Genesis, Store]:
    from chain.store import Store

    genesis = _genesis(arguments)
    return genesis, Store(arguments.data / "db", genesis.network, create=create)


def _chain(genesis: Genesis, store: Store) -> Any:
    """The chain of `store`, looked at as a node does when it starts; raises StoreError where it is damaged."""
    from chain.chain import Chain
    from consensus.rules import ConsensusRules
    from ponas_node.database.feeding import StoredFacts

    return Chain(store, ConsensusRules(genesis, StoredFacts(store)))


def _stats(arguments: argparse.Namespace) -> Answer:
    from ponas_node.database.figures import figures

    _, store = _open(arguments)
    with store:
        return figures(store)


def _verify(arguments: argparse.Namespace) -> Answer:
    from ponas_node.database.verifying import verify

    genesis, store = _open(arguments)
    with store:
        artifacts = arguments.data / "artifacts" if arguments.facts else None
        report = verify(store, genesis, arguments.data / "db.verify", _Progress("recomputed blocks"), artifacts)
    return {
        "ok": not report.found,
        "blocks": report.blocks,
        "recomputed": report.recomputed,
        "differences": report.found,
        "findings": report.findings,
        "notes": report.notes,
        "remedy": "`ponas db reindex` mends indexes, `ponas db repair` everything else." if report.found else None,
    }


def _reindex(arguments: argparse.Namespace) -> Answer:
    from chain.indexing import rebuild

    genesis, store = _open(arguments)
    with store:
        _chain(genesis, store)
        return {"index_entries": rebuild(store)}


def _compact(arguments: argparse.Namespace) -> Answer:
    from ponas_node.database.figures import size_on_disk

    _, store = _open(arguments)
    with store:
        before = size_on_disk(store)
        store.compact()
        return {"bytes_before": before, "bytes_after": size_on_disk(store)}


def _repair(arguments: argparse.Namespace) -> Answer:
    from ponas_node.database.repairing import repair

    genesis = _genesis(arguments)
    done = repair(arguments.data / "db", genesis, arguments.data / "artifacts", _Progress("height"))
    return {
        "height": done.height,
        "recomputed": done.recomputed,
        "damaged_files": str(done.kept),
        "stopped": done.stopped,
        "warning": _MINTER_WARNING,
    }


def _export(arguments: argparse.Namespace) -> Answer:
    from chain.export import export_chain

    path = options.out_path(arguments)
    genesis, store = _open(arguments)
    with store:
        tip = _chain(genesis, store).tip
        first, count = export_chain(store, tip.height, path, _Progress("exported blocks"))
    return {
        "file": str(path),
        "first_height": first,
        "blocks": count,
        "tip": tip.id.hex(),
        "bytes": path.stat().st_size,
    }


def _import(arguments: argparse.Namespace) -> Answer:
    from chain.export import ChainFile
    from ponas_node.database.feeding import Feeder

    genesis = _genesis(arguments)
    file = ChainFile(arguments.file.expanduser(), genesis.network)
    genesis, store = _open(arguments, create=True)
    with store:
        feeder = Feeder(store, genesis, arguments.data / "artifacts")
        feeder.feed(file.missing_from(store), _Progress("height"))
        tip = feeder.chain.tip
    return {"blocks": file.count, "added": feeder.added, "height": tip.height, "tip": tip.id.hex()}


def _snapshot(arguments: argparse.Namespace) -> Answer:
    from chain.snapshot import final_height, write_snapshot

    path = options.out_path(arguments)
    genesis, store = _open(arguments)
    with store:
        chain = _chain(genesis, store)
        height = arguments.height
        if height is None:
            height = final_height(store, chain.tip, genesis.ledger.max_rollback)
        if not store.base <= height <= chain.height:
            raise UserError(f"--height must be from {store.base} to {chain.height}, the tip.", USAGE)
        entries = write_snapshot(store, chain.tip, height, path, _Progress("entries"))
        block = chain.block_at(height)
    return {
        "file": str(path),
        "height": height,
        "block": block.id.hex(),
        "state_root": block.header.state_root.hex(),
        "entries": entries,
        "bytes": path.stat().st_size,
    }


def _restore(arguments: argparse.Namespace) -> Answer:
    from chain.snapshot import restore_snapshot
    from consensus.rules import ConsensusRules

    genesis = _genesis(arguments)
    trusted = options.block_id(arguments.block, "--block")
    target = arguments.data / "db"
    if target.exists():
        raise UserError(f"There is a database in {target} already: move it away, or choose another --data.")
    arguments.data.mkdir(parents=True, exist_ok=True)
    rules = ConsensusRules(genesis, _NoFacts())
    block = restore_snapshot(arguments.file.expanduser(), rules, trusted, target, _Progress("entries"))
    with _open(arguments)[1] as store:
        chain = _chain(genesis, store)
        return {
            "height": chain.height,
            "block": block.id.hex(),
            "state_root": block.header.state_root.hex(),
            "note": f"The node goes on from height {chain.height}. {_RESTORED}",
        }


class _NoFacts:
    """A restored state needs none: its blocks are not executed."""

    def get(self, key: bytes) -> int | None:
        """Nothing is known."""
        return None
