"""Recomputes a database from its raw blocks and says in what it differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chain.chain import Chain
from chain.compare import differences
from chain.errors import BadEncoding, Invalid, Missing
from chain.export import raw_block
from chain.failures import StoreError
from chain.store import Store
from chain.types import Block
from chain.verify import verify_store
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.database.feeding import StoredFacts

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


def verify(store: Store, genesis: Genesis, scratch: Path, progress: Callable[[int, int], None]) -> Report:
    """Check the whole database. `scratch`, which must not exist, holds the second database while it is made.

    The facts (scores of models, delay functions, datasets) are taken as the node has established them.
    """
    rules = ConsensusRules(genesis, StoredFacts(store))
    store.use_index(rules.index)
    report = Report()
    try:
        with Store(scratch, store.network, durable=False) as second:
            whole = _recompute(store, Chain(second, rules), report, progress)
            if whole:
                _collect(report, differences(store, second))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not whole:
        _collect(report, iter(verify_store(store)))
    return report


def _collect(report: Report, findings: Iterator[str]) -> None:
    try:
        for finding in findings:
            report.add(finding)
    except StoreError as error:
        report.add(error.message.rstrip("."))


def _recompute(store: Store, chain: Chain, report: Report, progress: Callable[[int, int], None]) -> bool:
    """Execute every block of `store` again on `chain`; returns whether all of them could be."""
    try:
        if store.tip is None:
            report.add("there is no tip")
            return False
        tip = store.header(store.tip)
        if tip is None:
            report.add("the header of the tip is missing")
            return False
        report.blocks = tip.height + 1 - store.base
        if store.base:
            report.notes.append(
                f"The state was restored at height {store.base}: earlier blocks are not here, so nothing could be "
                "recomputed. State, tree, blocks and indexes were compared with each other and with the state root."
            )
            return False
        for height in range(1, tip.height + 1):
            if not _execute(store, chain, height, report):
                return False
            progress(height, tip.height)
    except (StoreError, BadEncoding) as error:
        report.add(error.message.rstrip(".") if isinstance(error, StoreError) else str(error))
        return False
    report.recomputed = tip.height
    return True


def _execute(store: Store, chain: Chain, height: int, report: Report) -> bool:
    try:
        block = Block.decode(raw_block(store, height))
        chain.add_block(block)
    except Missing as error:
        report.add(f"{len(error.facts)} facts that the block at height {height} needs are missing")
    except Invalid as error:
        report.add(f"the block at height {height} breaks a rule ({error.code}): {error}")
    if chain.height != height:
        report.add(f"the blocks from height {height} on could not be recomputed")
        return False
    report.recomputed = height
    return True
