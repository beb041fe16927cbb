"""Recomputes a database from its raw blocks and says in what it differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chain.chain import Chain
from chain.compare import differences
from chain.errors import Invalid, Missing
from chain.export import raw_block
from chain.failures import StoreError
from chain.importing import import_blocks
from chain.store import Store
from chain.verify import verify_store
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.database.feeding import Feeder, Stopped, StoredFacts

_MOST = 1000  # findings that are kept


@dataclass
class Report:
    """What was found. `recomputed` blocks were executed again; the others were only compared with each other."""

    blocks: int = 0
    recomputed: int = 0
    found: int = 0
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, finding: str) -> None:
        """Count a finding, and keep the first ones."""
        self.found += 1
        if len(self.findings) < _MOST and finding not in self.findings:
            self.findings.append(finding)


def verify(
    store: Store,
    genesis: Genesis,
    scratch: Path,
    progress: Callable[[int, int], None],
    artifacts: Path | None = None,
    workers: int = 0,
) -> Report:
    """Check the whole database. `scratch`, which must not exist, holds the second database while it is made.

    The facts (scores of models, delay functions, datasets) are taken as the node has established them; with a folder of
    `artifacts` they are established once more. `workers` processes help with the signatures.
    """
    rules = ConsensusRules(genesis, StoredFacts(store))
    store.use_index(rules.index)
    report = Report()
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with Store(scratch, store.network, durable=False) as second:
            blocks = _readable_blocks(store, report)
            if store.base:
                whole = _restored(store, report)
            elif artifacts is None:
                whole = _execute(blocks, Chain(second, rules), workers, report, progress)
            else:
                whole = _establish(blocks, Feeder(second, genesis, artifacts, workers), report, progress)
            if whole:
                _collect(report, differences(store, second))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not whole:
        _collect(report, verify_store(store))
    _read_all(store, report)
    return report


def _read_all(store: Store, report: Report) -> None:
    """Read every file to its end, also the records of other components, for checksums that do not fit."""
    try:
        for _ in store.raw_iterate(b""):
            pass
    except StoreError as error:
        report.add(error.message.rstrip("."))


def _collect(report: Report, findings: Iterator[str]) -> None:
    try:
        for finding in findings:
            report.add(finding)
    except StoreError as error:
        report.add(error.message.rstrip("."))


def _restored(store: Store, report: Report) -> bool:
    """A restored state has no blocks before it to execute."""
    tip = None if store.tip is None else store.header(store.tip)
    report.blocks = 0 if tip is None else tip.height + 1 - store.base
    report.notes.append(
        f"The state was restored at height {store.base}: earlier blocks are not here, so nothing could be recomputed. "
        "State, tree, blocks and indexes were compared with each other and with the state root."
    )
    return False


def _readable_blocks(store: Store, report: Report) -> Iterator[bytes]:
    """Raw blocks to execute, from height 1 to the tip; ends early with a finding."""
    tip = None if store.tip is None else store.header(store.tip)
    if tip is None:
        report.add("there is no tip, or its header is missing")
        return
    report.blocks = tip.height + 1
    for height in range(1, tip.height + 1):
        try:
            raw = raw_block(store, height)
        except StoreError as error:
            report.add(error.message.rstrip("."))
            return
        yield raw


def _execute(
    blocks: Iterator[bytes], chain: Chain, workers: int, report: Report, progress: Callable[[int, int], None]
) -> bool:
    """Execute every block again on `chain`; returns whether all could be."""
    try:
        import_blocks(chain, blocks, workers, lambda height: progress(height, report.blocks - 1))
    except Missing as error:
        report.add(f"{len(error.facts)} facts that the block at height {chain.height + 1} needs are missing")
    except Invalid as error:
        report.add(f"the block at height {chain.height + 1} breaks a rule ({error.code}): {error}")
    report.recomputed = chain.height
    if report.recomputed < report.blocks - 1:
        report.add(f"the blocks from height {chain.height + 1} on could not be recomputed")
    return not report.found and report.recomputed == report.blocks - 1


def _establish(blocks: Iterator[bytes], feeder: Feeder, report: Report, progress: Callable[[int, int], None]) -> bool:
    """The same, with all facts established anew."""
    try:
        feeder.feed(blocks, lambda height: progress(height, report.blocks - 1))
    except Stopped as error:
        report.add(str(error).rstrip("."))
    report.recomputed = feeder.chain.height
    return not report.found and report.recomputed == report.blocks - 1
