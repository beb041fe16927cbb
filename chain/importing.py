"""Blocks from a file or another source into a chain, many to a write, their signatures verified ahead of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from chain.chain import Chain
from chain.collector import no_collections
from chain.errors import BadSignature, Invalid, Missing
from chain.ledger import check_form, signatures
from chain.types import MAX_BLOCK, Block
from chain.verifying import Job, Verifier

_BATCH_BLOCKS = 256
_BATCH_BYTES = 4 << 20  # of blocks that one write connects; what several of them change is written once
_BATCHES = 2  # read ahead: one is applied while the next is verified

Progress = Callable[[int], None]
Establish = Callable[[Missing], None]


@dataclass(slots=True)
class _Batch:
    blocks: list[Block] = field(default_factory=list)
    size: int = 0
    jobs: list[Job] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.blocks) >= _BATCH_BLOCKS or self.size >= _BATCH_BYTES


def import_blocks(chain: Chain, raws: Iterable[bytes], workers: int = 0, progress: Progress | None = None) -> int:
    """Add blocks in canonical bytes, each after its parent, to `chain`; returns how many were new. See `Importer`.

    Raises Invalid at the first block that does not fit, Missing where facts must be established first; what came
    before it is then in the chain.
    """
    importer = Importer(chain, workers, progress)
    importer.run(raws)
    return importer.added


class Importer:
    """Adds blocks to a chain. Those that extend the tip are written up to 4 MiB at a time.

    So a crash loses the last ones only, and a second import goes on from there. `workers`: processes that verify
    signatures beside this one. `progress` is called with the height after every write. `establish` is called where
    facts are missing and returns when they are known; what was read ahead is kept meanwhile.

    `added` counts the new blocks; `refused` is the block that ended the import, None where it was no block.
    """

    def __init__(
        self, chain: Chain, workers: int = 0, progress: Progress | None = None, establish: Establish | None = None
    ) -> None:
        self.added = 0
        self.refused: Block | None = None
        self._chain = chain
        self._workers = workers
        self._progress = progress
        self._establish = establish
        self._batches: deque[_Batch] = deque()
        self._last = chain.tip.id  # what the last block read ahead leads to

    def run(self, raws: Iterable[bytes]) -> None:
        """Add blocks in canonical bytes, each after its parent; known ones are passed over.

        Raises Invalid at the first block that does not fit, Missing where nobody establishes the facts that it needs,
        and what `raws` or `establish` raises. What came before is then in the chain.
        """
        with Verifier(self._workers) as verifier, no_collections():
            try:
                for raw in raws:
                    self._read(raw, verifier)
            except Exception:
                fault = self.refused
                self._write_all(verifier)  # a block before the one at fault may be at fault, too; then that one counts
                self.refused = fault
                raise
            self._write_all(verifier)

    def _read(self, raw: bytes, verifier: Verifier) -> None:
        self.refused = None
        block = Block.decode(raw, MAX_BLOCK)
        if block.header.parent != self._last:
            self._write_all(verifier)
            if not self._chain.has(block.id):
                self._settle(block, partial(self._chain.add_block, block))
                self.added += 1
            self._last = self._chain.tip.id
            return
        if len(self._batches) == _BATCHES and self._batches[-1].is_full:
            self._write(verifier)
        self.refused = block
        check_form(self._chain.rules, block)
        if not self._batches or self._batches[-1].is_full:
            self._batches.append(_Batch())
        batch = self._batches[-1]
        batch.blocks.append(block)
        batch.size += len(raw)
        batch.jobs += verifier.submit(signatures(self._chain.rules, block))
        self._last = block.id

    def _write_all(self, verifier: Verifier) -> None:
        while self._batches:
            self._write(verifier)

    def _write(self, verifier: Verifier) -> None:
        """Connect the oldest batch; where it cannot be, those after it are given up."""
        batch = self._batches.popleft()
        height = self._chain.height
        try:
            self._connect(batch, verifier)
        except BaseException:
            self._batches.clear()
            raise
        finally:
            self.added += self._chain.height - height
        if self._progress is not None:
            self._progress(self._chain.height)

    def _connect(self, batch: _Batch, verifier: Verifier) -> None:
        first = self._chain.height + 1

        def rest() -> list[Block]:
            return batch.blocks[self._chain.height + 1 - first :]

        try:
            verifier.complete(batch.jobs)
        except BadSignature:
            for block in batch.blocks:  # one at a time, up to the one at fault
                self._settle(block, partial(self._chain.add_block, block))
            return
        try:
            self._settle(None, lambda: self._chain.extend(rest()))
        except Invalid:
            self.refused = rest()[0]
            raise

    def _settle(self, block: Block | None, work: Callable[[], object]) -> None:
        """Do `work`, again and again as long as facts are missing that can be established."""
        while True:
            self.refused = block
            try:
                work()
            except Missing as error:
                if self._establish is None:
                    raise
                self._establish(error)
            else:
                return
