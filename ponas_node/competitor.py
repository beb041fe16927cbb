"""Takes part in the competition: seals candidates before commits close, and reveals the best once the beacon is known.

What was sealed, with its salts, is on disk before the commit is sent, so a crash loses nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from chain.encoding import U32, U64, Hash, Record, Size
from chain.errors import Invalid
from chain.keys import PrivateKey
from chain.merkle import merkle_path, merkle_root
from chain.types import Kind
from consensus import records
from consensus.facts import score_fact
from consensus.parameters import Phase
from consensus.reveal import check_genotype
from consensus.types import CommitBody, CommitRecord, EpochRecord, Genotype, Leaves, Payout, RevealBody, seal
from ponas_node.oracle import FOR_OWN_SEARCH
from ponas_node.sender import Sender
from ponas_node.ticking import twice_a_slot
from pool.work import Candidate, Work

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_EVALUATED_PER_SEAT = 3  # sealed candidates that are evaluated for every seat, best validation score first


@dataclass(frozen=True, slots=True)
class Sealed(Record):
    """One sealed candidate."""

    genotype: Genotype
    leaves: Leaves
    model_bytes: U32
    validation_correct: U32
    validation_total: U32
    finder: Annotated[bytes, Size(20, 20)]
    salt: Hash

    @property
    def candidate(self) -> Candidate:
        """The candidate that was sealed."""
        return Candidate(
            self.genotype, self.leaves, self.leaves[-1], self.model_bytes,
            self.validation_correct, self.validation_total, self.finder,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch(Record):
    """What one commit seals. `seed` is that of the trainings: another branch may have another for the same epoch."""

    epoch: U64
    seed: Hash
    entries: Annotated[tuple[Sealed, ...], Size(1, 65536)]

    def seals(self, owner: bytes) -> list[bytes]:
        """Leaves of the commit's tree."""
        return [seal(entry.genotype, entry.leaves, owner, entry.salt) for entry in self.entries]


CandidateSource = Callable[[Work, int], Sequence[Candidate]]
PayoutSource = Callable[[Candidate, int], tuple[Payout, ...]]


class Competitor:
    """Seals and reveals for one key. `candidates` are best first; `payouts` gives the table of a result."""

    def __init__(self, node: Node, key: PrivateKey, candidates: CandidateSource, payouts: PayoutSource) -> None:
        self._node = node
        self._key = key
        self._candidates = candidates
        self._payouts = payouts
        self._store = node.store.namespace(b"competitor")
        self._sender = Sender(node, key)  # keeps what was announced, the payout table above all

    async def run(self) -> None:
        """Compete for ever: look at the chain twice a slot, and do what is due."""
        await twice_a_slot(self._node.genesis.consensus, "competition", self.step)

    async def step(self) -> None:
        """Do what is due now."""
        node, parameters = self._node, self._node.genesis.consensus
        epoch = records.current_epoch(node.chain.state)
        slot = max(node.slot(), node.chain.tip.slot + 1)  # of the next block, the first that could carry anything
        if epoch.number != parameters.epoch_of(slot) or node.sync_status()["syncing"]:
            return
        phase = parameters.phase(slot)
        if phase is Phase.COMMIT:
            await self._commit(epoch, parameters.offset(slot))
        elif phase is Phase.REVEAL and epoch.beacon:
            await self._reveal(epoch)

    # ---- sealing

    async def _commit(self, epoch: EpochRecord, offset: int) -> None:
        parameters = self._node.genesis.consensus
        batches = self._batches(epoch)
        due = [offset >= parameters.commit_close // 2, offset >= parameters.commit_close - self._margin()]
        if len(batches) < sum(due):
            self._seal_new(epoch, batches)
        on_chain = {commit.root for commit in self._own_commits(epoch)}
        for batch in self._batches(epoch):
            root = merkle_root(batch.seals(self._key.public))
            if root not in on_chain:
                body = CommitBody(epoch.number, epoch.seed, root, len(batch.entries))
                await self._sender.send(b"commit" + root, Kind.COMMIT, body)

    def _margin(self) -> int:
        """Slots before the close at which the last commit is sent."""
        return max(3, self._node.genesis.consensus.commit_close // 6)

    def _seal_new(self, epoch: EpochRecord, batches: list[Batch]) -> None:
        work = self._node.work()
        if work is None or (work.epoch, work.seed) != (epoch.number, epoch.seed):
            return
        known = {entry.genotype for batch in batches for entry in batch.entries}
        most = self._node.genesis.consensus.commit_leaves
        fresh = [found for found in self._candidates(work, most) if found.genotype not in known]
        if not fresh:
            return
        entries = tuple(
            Sealed(
                found.genotype, found.leaves, found.model_bytes,
                found.validation_correct, found.validation_total, found.finder, secrets.token_bytes(32),
            )
            for found in fresh
        )  # fmt: skip
        key = records.number(epoch.number) + epoch.seed + len(batches).to_bytes(4, "big")
        self._store.put(key, Batch(epoch.number, epoch.seed, entries).encode())
        for old, _ in list(self._store.iterate()):
            if int.from_bytes(old[:8], "big") < epoch.number - 1:
                self._store.delete(old)
        log.info("epoch %d: sealed %d candidates", epoch.number, len(entries))

    def _batches(self, epoch: EpochRecord) -> list[Batch]:
        prefix = records.number(epoch.number) + epoch.seed
        return [Batch.decode(value, 1 << 26) for _, value in self._store.iterate(prefix)]

    def _own_commits(self, epoch: EpochRecord) -> list[CommitRecord]:
        state = self._node.chain.state
        return [commit for commit in records.commits_of(state, epoch) if commit.owner == self._key.public]

    # ---- revealing

    async def _reveal(self, epoch: EpochRecord) -> None:
        parameters = self._node.genesis.consensus
        commits = {commit.root: commit for commit in self._own_commits(epoch)}
        sealed: list[tuple[Sealed, CommitRecord, Batch, int]] = []
        for batch in self._batches(epoch):
            commit = commits.get(merkle_root(batch.seals(self._key.public)))
            if commit is not None:
                sealed.extend((entry, commit, batch, i) for i, entry in enumerate(batch.entries))
        sealed.sort(key=lambda item: -item[0].validation_correct)
        ranked = []
        for entry, commit, batch, index in sealed[: parameters.seats * _EVALUATED_PER_SEAT]:
            scored = await self._score(epoch, entry)
            if scored is not None:
                ranked.append((scored, commit.height, entry, commit, batch, index))
        ranked.sort(key=lambda item: (item[0], item[1], item[5]))
        opened = {(result.commit, result.leaf_index) for result in records.results_of(self._node.chain.state, epoch)}
        for (negative, _), _, entry, commit, batch, index in ranked[: parameters.seats]:
            if (commit.id, index) not in opened:
                await self._open(entry, commit, batch, index, -negative)

    async def _score(self, epoch: EpochRecord, entry: Sealed) -> tuple[int, int] | None:
        """(minus correct, MACs) of a sealed candidate on the beacon's samples; None below the baseline."""
        task = records.task(self._node.chain.state, epoch.task)
        if task is None:
            return None
        fact = score_fact(task.spec, epoch, entry.genotype, entry.leaves[-1], entry.model_bytes)
        try:
            _, cost = check_genotype(task.spec, entry.genotype)
            correct = await self._node.oracle.establish(fact, FOR_OWN_SEARCH)
        except Invalid as error:  # one that cannot be shown now must not hold up the others
            log.warning("epoch %d: candidate %s: %s", epoch.number, entry.genotype.hex(), error)
            return None
        return None if correct < task.spec.baseline_correct else (-correct, cost.macs)

    async def _open(self, entry: Sealed, commit: CommitRecord, batch: Batch, index: int, correct: int) -> None:
        limit = self._node.genesis.consensus.payout_entries
        body = RevealBody(
            commit.id, index, merkle_path(batch.seals(self._key.public), index), entry.salt, entry.genotype,
            entry.leaves, entry.model_bytes, correct, self._payouts(entry.candidate, limit),
        )  # fmt: skip
        await self._sender.send(b"reveal" + commit.id + index.to_bytes(4, "big"), Kind.REVEAL, body)
