"""Saves what is sound of a damaged database. The damaged files stay as they are, in a folder beside.

LevelDB reads what it can of a copy of them. Where that contradicts itself nowhere, it is taken as it is; else its
blocks are executed again, from genesis as far as they go, and the records of other components copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plyvel

from chain import layout
from chain.chain import Chain
from chain.errors import BadEncoding
from chain.failures import StoreError, missing, translate
from chain.frames import sync_folder
from chain.leveldb import check_not_held
from chain.store import Store
from chain.types import Block
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.database.feeding import Feeder, Stopped, StoredFacts


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of it. `kept` is where the damaged files are; `stopped` says why the blocks end where they do."""

    height: int
    recomputed: int
    kept: Path
    stopped: str | None


class Hopeless(Exception):
    """Nothing can be saved from the files; the message says what to do instead. They are left as they were."""


def repair(path: Path, genesis: Genesis, artifacts: Path, progress: Callable[[int], None]) -> Repaired:
    """Replace the database in `path` by what can be saved of it. Raises StoreError (missing, locked) or Hopeless."""
    _check_free(path)
    source = path.with_name(path.name + ".salvage")
    target = path.with_name(path.name + ".repaired")
    try:
        for folder in (source, target):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(path, source)
        _salvage(source)
        height, recomputed, stopped = _whole(source, genesis), 0, None
        if height is not None:
            source.rename(target)
        else:
            height, stopped = _rebuild(source, target, genesis, artifacts, progress)
            recomputed = height
        kept = _free_name(path)
        path.rename(kept)
        target.rename(path)
        sync_folder(path.parent)
    finally:
        for folder in (source, target):
            shutil.rmtree(folder, ignore_errors=True)
    return Repaired(height, recomputed, kept, stopped)


def _check_free(path: Path) -> None:
    """Raise StoreError where there is no database, or another process holds it: LevelDB looks at its lock first."""
    if not path.is_dir() or not any(path.iterdir()):
        raise missing(path)
    check_not_held(path)
    try:
        plyvel.DB(str(path), create_if_missing=False, paranoid_checks=True).close()
    except plyvel.Error as error:
        failure = translate(path, error)
        if failure.code in ("locked", "not_creatable"):
            raise failure from error


def _salvage(source: Path) -> None:
    """Let LevelDB make a database of the records that it can read."""
    try:
        plyvel.repair_db(str(source))
        plyvel.DB(str(source), create_if_missing=False).close()
        shutil.rmtree(source / "lost", ignore_errors=True)  # the damaged files, which are kept elsewhere
    except plyvel.Error as error:
        raise Hopeless(
            f"Nothing in the database can be read: {translate(source, error).message} Move it away and start again: "
            "import an exported chain, restore a snapshot, or let the node sync anew."
        ) from error


def _whole(source: Path, genesis: Genesis) -> int | None:
    """Height of a database that contradicts itself nowhere; None of any other."""
    try:
        with Store(source, genesis.network, create=False) as store:
            if store.tip is None:
                return None
            chain = Chain(store, ConsensusRules(genesis, StoredFacts(store)))
            for _ in store.raw_iterate(b""):  # to the last file, also what the chain does not need
                pass
            return None if chain.verify() else chain.height
    except StoreError:
        return None


def _rebuild(
    source: Path, target: Path, genesis: Genesis, artifacts: Path, progress: Callable[[int], None]
) -> tuple[int, str | None]:
    """Fill `target` from the blocks in `source`; returns its height, and why there are no more blocks."""
    found = plyvel.DB(str(source), create_if_missing=False)
    try:
        with Store(target, genesis.network) as store:
            store.write_in_parts(_readable(found, layout.NAMESPACE))  # of other components, the facts among them
            feeder = Feeder(store, genesis, artifacts)
            blocks = _longest_path(found, feeder.chain.genesis.id)
            if not blocks:
                raise Hopeless(
                    "No block that follows genesis can be saved: the database was restored from a snapshot, or its "
                    "first blocks are lost. Move it away and restore the snapshot again, import an exported chain, or "
                    "let the node sync anew."
                )
            stopped = None
            try:
                feeder.feed((_raw(found, block_id) for block_id in blocks), progress)
            except Stopped as error:
                stopped = str(error)
            return feeder.chain.height, stopped
    finally:
        found.close()


def _raw(found: Any, block_id: bytes) -> bytes:
    raw: bytes | None = found.get(layout.BLOCK + block_id, verify_checksums=True)
    if raw is None:
        raise Stopped(f"Block {block_id.hex()[:16]} can no longer be read.")
    return raw


def _longest_path(found: Any, genesis: bytes) -> list[bytes]:
    """Ids of the longest sequence of readable blocks after genesis."""
    parents: dict[bytes, bytes] = {}
    children: dict[bytes, list[bytes]] = {}
    for key, raw in _readable(found, layout.BLOCK):
        try:
            block = Block.decode(raw)
        except BadEncoding:
            continue
        if block.id == key[1:] != genesis:
            parents[block.id] = block.header.parent
            children.setdefault(block.header.parent, []).append(block.id)
    level, last = [genesis], genesis
    while level := [child for block_id in level for child in children.get(block_id, [])]:
        last = level[0]
    path: list[bytes] = []
    while last != genesis:
        path.append(last)
        last = parents[last]
    return path[::-1]


def _readable(found: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs under `prefix`, as far as they can be read."""
    try:
        with found.iterator(prefix=prefix, verify_checksums=True) as iterator:
            yield from iterator
    except plyvel.Error:
        return


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return name
