"""What the commands of `ponas db` do; each answers with what it prints."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.node import read_genesis

if TYPE_CHECKING:
    from chain.store import Store
    from consensus.genesis import Genesis

Answer = dict[str, Any]

_MINTER_WARNING = (
    "Records of a pool, a search or the minter may be lost. If this node mints, wait for the next epoch before you "
    "start it, so that it cannot sign a second block for a slot."
)
_RESTORED = "It cannot undo that block, and it has no earlier blocks and histories to show or to give to peers."
_EVERY = 2.0  # seconds between two lines of progress


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


def _open(arguments: argparse.Namespace) -> tuple[Genesis, Store]:
    from chain.store import Store

    genesis = _genesis(arguments)
    return genesis, Store(arguments.data / "db", genesis.network, create=False)


def _chain(genesis: Genesis, store: Store) -> Any:
    """The chain of `store`, looked at as a node does when it starts; raises StoreError where it is damaged."""
    from chain.chain import Chain
    from consensus.rules import ConsensusRules
    from ponas_node.database.feeding import StoredFacts

    return Chain(store, ConsensusRules(genesis, StoredFacts(store)))


def stats(arguments: argparse.Namespace) -> Answer:
    """`ponas db stats`"""
    from ponas_node.database.figures import figures

    _, store = _open(arguments)
    with store:
        return figures(store)


def verify(arguments: argparse.Namespace) -> Answer:
    """`ponas db verify`"""
    from ponas_node.database.verifying import verify

    genesis, store = _open(arguments)
    with store:
        artifacts = arguments.data / "artifacts" if arguments.facts else None
        progress = _Progress("recomputed blocks")
        report = verify(store, genesis, arguments.data / "db.verify", progress, artifacts, arguments.workers)
    return {
        "ok": not report.found,
        "blocks": report.blocks,
        "recomputed": report.recomputed,
        "differences": report.found,
        "findings": report.findings,
        "notes": report.notes,
        "remedy": "`ponas db reindex` mends indexes, `ponas db repair` everything else." if report.found else None,
    }


def reindex(arguments: argparse.Namespace) -> Answer:
    """`ponas db reindex`"""
    from chain.indexing import rebuild

    genesis, store = _open(arguments)
    with store:
        _chain(genesis, store)
        return {"index_entries": rebuild(store)}


def compact(arguments: argparse.Namespace) -> Answer:
    """`ponas db compact`"""
    from ponas_node.database.figures import size_on_disk

    _, store = _open(arguments)
    with store:
        before = size_on_disk(store)
        store.compact()
        return {"bytes_before": before, "bytes_after": size_on_disk(store)}


def repair(arguments: argparse.Namespace) -> Answer:
    """`ponas db repair`"""
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


def export(arguments: argparse.Namespace) -> Answer:
    """`ponas db export`"""
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


def import_blocks(arguments: argparse.Namespace) -> Answer:
    """`ponas db import`"""
    from chain.export import ChainFile
    from chain.store import Store
    from ponas_node.database.feeding import Feeder

    genesis = _genesis(arguments)
    file = ChainFile(arguments.file.expanduser(), genesis.network)
    with Store(arguments.data / "db", genesis.network) as store:
        feeder = Feeder(store, genesis, arguments.data / "artifacts", arguments.workers)
        feeder.feed(file.missing_from(store), _Progress("height"))
        tip = feeder.chain.tip
    return {"blocks": file.count, "added": feeder.added, "height": tip.height, "tip": tip.id.hex()}


def snapshot(arguments: argparse.Namespace) -> Answer:
    """`ponas db snapshot`"""
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


def restore(arguments: argparse.Namespace) -> Answer:
    """`ponas db restore`"""
    from chain.snapshot import restore_snapshot
    from chain.store import Store
    from consensus.facts import NoFacts
    from consensus.rules import ConsensusRules

    genesis = _genesis(arguments)
    trusted = options.parse_id(arguments.block, "--block")
    target = arguments.data / "db"
    if target.exists():
        raise UserError(f"There is a database in {target} already: move it away, or choose another --data.")
    arguments.data.mkdir(parents=True, exist_ok=True)
    rules = ConsensusRules(genesis, NoFacts())
    block = restore_snapshot(arguments.file.expanduser(), rules, trusted, target, _Progress("entries"))
    with Store(target, genesis.network, create=False) as store:
        chain = _chain(genesis, store)
        return {
            "height": chain.height,
            "block": block.id.hex(),
            "state_root": block.header.state_root.hex(),
            "note": f"The node goes on from height {chain.height}. {_RESTORED}",
        }
