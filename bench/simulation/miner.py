"""A simulated miner: trains by looking up, seals, and opens, as `ponas_node.competitor` does."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.simulation.oracle import MODEL_BYTES
from bench.simulation.search import at_random, searching
from bench.simulation.setting import Setting
from chain.encoding import Record
from chain.hashing import digest
from chain.merkle import merkle_path, merkle_root
from chain.types import Kind, Transaction, sign_transaction
from consensus import records
from consensus.parameters import Phase
from consensus.types import CommitBody, CommitRecord, EpochRecord, Payout, RevealBody, seal

if TYPE_CHECKING:
    from bench.simulation.node import Node


@dataclass(frozen=True, slots=True)
class Entry:
    """A training that is sealed."""

    genotype: bytes
    leaves: tuple[bytes, ...]
    salt: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit seals."""

    epoch: int
    seed: bytes
    entries: tuple[Entry, ...]
    commit: Transaction


class Miner:
    """Competes for one node, with so many trainings an epoch. What it has sealed survives a crash."""

    def __init__(self, node: Node, compute: int, setting: Setting) -> None:
        self.node = node
        self.compute = compute
        self.reveals = setting.reveals
        self.batches: list[Batch] = []
        self._search = at_random if setting.strategy is None else searching(setting.strategy)
        self._random = random.Random(f"{setting.seed} miner {node.index}")
        self._chosen = (-1, 0)  # epoch and the offset of the slot at which it seals
        self._opened: tuple[bytes, int, list[Transaction]] = (b"", 0, [])

    def step(self, slot: int) -> None:
        """Do what is due at `slot`."""
        node, parameters = self.node, self.node.rules.consensus
        number, offset, phase = parameters.epoch_of(slot), parameters.offset(slot), parameters.phase(slot)
        if phase not in (Phase.COMMIT, Phase.REVEAL) or node.catch_up.syncing:
            return
        if self._chosen[0] != number:
            self._chosen = number, self._random.randrange(parameters.commit_close // 3, parameters.commit_close - 3)
        if phase is Phase.COMMIT and offset < self._chosen[1]:
            return
        epoch = records.current_epoch(node.chain.state)
        if epoch.number != number:
            return
        if phase is Phase.COMMIT:
            self._commit(epoch)
        elif epoch.beacon:
            self._reveal(epoch)

    # ---- sealing

    def _commit(self, epoch: EpochRecord) -> None:
        if not self.batches or self.batches[-1].epoch != epoch.number:
            self.batches = self.node.behaviour.seals(self, epoch)
        for batch in self.batches:
            self.node.send(batch.commit)

    def propose(self, count: int) -> list[bytes]:
        """So many architectures to train."""
        return self._search(count, self._random)

    def train(self, epoch: EpochRecord) -> list[Entry]:
        """Train what the search proposes, as much as there is compute for; best first."""
        oracle = self.node.world.oracle
        entries = [self.entry(epoch, genotype) for genotype in self.propose(self.compute)]
        return sorted(entries, key=lambda entry: -oracle.model(entry.leaves).correct)

    def entry(self, epoch: EpochRecord, genotype: bytes) -> Entry:
        """A training of `genotype`, ready to be sealed."""
        salt = digest("simulated-salt", self.node.key, genotype, epoch.seed)
        return Entry(genotype, self.node.world.oracle.train(genotype, epoch.seed), salt)

    def seal(self, epoch: EpochRecord, entries: list[Entry], after: int = 0) -> list[Batch]:
        """One commit of the first entries, as many as it may seal; `after` counts own transactions before it."""
        kept = tuple(entries[: self.node.rules.consensus.commit_leaves])
        if not kept:
            return []
        body = CommitBody(epoch.number, epoch.seed, merkle_root(self._seals(kept)), len(kept))
        return [Batch(epoch.number, epoch.seed, kept, self.sign(Kind.COMMIT, body, after))]

    def _seals(self, entries: tuple[Entry, ...]) -> list[bytes]:
        return [seal(entry.genotype, entry.leaves, self.node.signing.public, entry.salt) for entry in entries]

    # ---- revealing

    def _reveal(self, epoch: EpochRecord) -> None:
        nonce = self.node.nonce
        if self._opened[0] != epoch.beacon or self._opened[1] > nonce:
            self._opened = epoch.beacon, nonce, self._openings(epoch)
        for transaction in self._opened[2]:
            self.node.send(transaction)

    def _openings(self, epoch: EpochRecord) -> list[Transaction]:
        """Reveals of the best of what was sealed under the epoch's seed and is committed on this branch."""
        node, oracle = self.node, self.node.world.oracle
        task = records.task(node.chain.state, epoch.task)
        if task is None:
            raise RuntimeError("the epoch's task is not in the state: a fault in the rules")
        ranked: list[tuple[int, Batch, int]] = []
        for batch in self.batches:
            known = records.read(node.chain.state, records.COMMIT + batch.commit.id, CommitRecord)
            if known is not None and (batch.epoch, batch.seed) == (epoch.number, epoch.seed):
                for place, entry in enumerate(batch.entries):
                    correct = oracle.score(entry.leaves[-1], entry.genotype, epoch.beacon)
                    if correct >= task.spec.baseline_correct:
                        ranked.append((correct, batch, place))
        ranked.sort(key=lambda found: -found[0])
        chosen = node.behaviour.opens(ranked, self.reveals)
        return [self.open(batch, place, correct, after) for after, (correct, batch, place) in enumerate(chosen)]

    def open(self, batch: Batch, place: int, correct: int, after: int) -> Transaction:
        """The reveal of one entry of a batch."""
        entry = batch.entries[place]
        body = RevealBody(
            batch.commit.id, place, merkle_path(self._seals(batch.entries), place), entry.salt, entry.genotype,
            entry.leaves, MODEL_BYTES, correct, (Payout(self.node.signing.address, 1),),
        )  # fmt: skip
        return self.sign(Kind.REVEAL, body, after)

    def sign(self, kind: Kind, body: Record, after: int) -> Transaction:
        """A transaction `after` others of this miner that are not on the chain yet."""
        node = self.node
        size = len(body.encode()) + 160
        return sign_transaction(node.signing, node.rules.network, kind, node.nonce + after, 2 * size, body)
