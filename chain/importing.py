"""Blocks from a file or another source into a chain, many to a write, their signatures verified ahead of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chain.chain import Chain
from chain.collector import no_collections
from chain.errors import BadSignature, Invalid
from chain.ledger import check_form, signatures
from chain.types import MAX_BLOCK, Block
from chain.verifying import Job, Verifier

_BATCH_BLOCKS = 256
_BATCH_BYTES = 2 << 20  # of blocks that one write connects
_BATCHES = 3  # read ahead: one is applied while the next two are verified

Progress = Callable[[int], None]


@dataclass(slots=True)
class _Batch:
    blocks: list[Block] = field(default_factory=list)
    size: int = 0
    jobs: list[Job] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.blocks) >= _BATCH_BLOCKS or self.size >= _BATCH_BYTES


def import_blocks(chain: Chain, raws: Iterable[bytes], workers: int = 0, progress: Progress | None = None) -> int:
    """Add blocks in canonical bytes, each after its parent, to `chain`; returns how many were new.

    Known ones are passed over. `workers`: processes that verify signatures beside this one. Blocks that extend the tip
    are written up to 2 MiB at a time, so a crash loses the last ones only, and a second import goes on from there.
    `progress` is called with the height after every write.

    Raises Invalid at the first block that does not fit, Missing where facts must be established first; what came
    before it is then in the chain.
    """
    with Verifier(workers) as verifier, no_collections():
        return _Import(chain, verifier, progress).run(raws)


class _Import:
    """One import under way."""

    def __init__(self, chain: Chain, verifier: Verifier, progress: Progress | None) -> None:
        self._chain = chain
        self._verifier = verifier
        self._progress = progress
        self._batches: deque[_Batch] = deque()
        self._last = chain.tip.id  # what the last block read ahead leads to
        self._added = 0

    def run(self, raws: Iterable[bytes]) -> int:
        fault: Invalid | None = None
        try:
            for raw in raws:
                self._read(raw)
        except Invalid as error:
            fault = error
        while self._batches:
            self._write()
        if fault is not None:
            raise fault
        return self._added

    def _read(self, raw: bytes) -> None:
        block = Block.decode(raw, MAX_BLOCK)
        if block.header.parent != self._last:
            while self._batches:
                self._write()
            if not self._chain.has(block.id):
                self._chain.add_block(block)
                self._added += 1
            self._last = self._chain.tip.id
            return
        check_form(self._chain.rules, block)
        if not self._batches or self._batches[-1].is_full:
            if len(self._batches) == _BATCHES:
                self._write()
            self._batches.append(_Batch())
        batch = self._batches[-1]
        batch.blocks.append(block)
        batch.size += len(raw)
        batch.jobs += self._verifier.submit(signatures(self._chain.rules, block))
        self._last = block.id

    def _write(self) -> None:
        """Connect the oldest batch. Where that fails, nothing that was read behind it can follow."""
        try:
            self._connect(self._batches.popleft())
        except Invalid:
            self._batches.clear()
            raise

    def _connect(self, batch: _Batch) -> None:
        height = self._chain.height
        try:
            self._verifier.complete(batch.jobs)
            self._chain.extend(batch.blocks)
        except BadSignature:
            for block in batch.blocks:  # one at a time, up to the one at fault
                self._chain.add_block(block)
        finally:
            self._added += self._chain.height - height
        if self._progress is not None:
            self._progress(self._chain.height)
