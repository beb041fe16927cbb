"""Miners that misbehave with what they seal, open and challenge."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bench.simulation.behaviours import Ranked
from bench.simulation.byzantine import Byzantine
from bench.simulation.miner import Batch, Entry, Miner
from bench.simulation.node import Node
from bench.simulation.setting import watch_key
from bench.simulation.watch import accuse
from chain.hashing import digest
from chain.types import Kind, Transaction
from consensus import records
from consensus.parameters import Phase
from consensus.types import ChallengeBody, CommitRecord, EpochRecord, Payout, RevealBody


class Keeper(Byzantine):
    """Seals like everybody, and reveals nothing."""

    def opens(self, ranked: list[Ranked], most: int) -> list[Ranked]:
        """Nothing."""
        return []


class Copier(Byzantine):
    """Trains nothing: copies what others sealed, as if it were told before commits close, and what they reveal."""

    def seals(self, miner: Miner, epoch: EpochRecord) -> list[Batch]:
        """The architectures that the others sealed so far."""
        others = [
            entry.genotype
            for node in self.node.world.nodes
            if node.miner is not None and node is not self.node
            for batch in node.miner.batches
            if batch.epoch == epoch.number
            for entry in batch.entries
        ]
        return miner.seal(epoch, [miner.entry(epoch, genotype) for genotype in dict.fromkeys(others)])

    def on_slot(self, slot: int) -> None:
        """Opens another's result as if its own commit sealed it."""
        node, miner = self.node, self.node.miner
        if miner is None or not miner.batches or node.rules.consensus.phase(slot) is not Phase.REVEAL:
            return
        commit = miner.batches[0].commit.id
        if records.read(node.chain.state, records.COMMIT + commit, CommitRecord) is None:
            return
        for transaction in node.world.transactions.fresh(node.pending.known & ~node.pending.included):
            if transaction.kind == Kind.REVEAL and transaction.sender != node.signing.public:
                table = (Payout(node.signing.address, 1),)
                body = dataclasses.replace(RevealBody.decode(transaction.body), commit=commit, payouts=table)
                node.send(miner.sign(Kind.REVEAL, body, miner.reveals))
                return


class Grinder(Byzantine):
    """Seals what it trained many times over, between results that nobody trained, in the hope for a lucky draw."""

    COMMITS: ClassVar[int] = 4

    def seals(self, miner: Miner, epoch: EpochRecord) -> list[Batch]:
        """Each commit seals the same trainings, and claims leaves of others for architectures it did not train."""
        trained = miner.train(epoch)
        room = miner.node.rules.consensus.commit_leaves - len(trained)
        junk = [_untrained(trained[0], number) for number in range(room)]
        return [batch for n in range(self.COMMITS) for batch in miner.seal(epoch, trained + junk, after=n)]


class Faker(Byzantine):
    """Trains nothing: seals models that it made up with the test set at hand, as many as a commit may seal.

    It is honest in the first competition, whose seats are all that there are then.
    """

    FIRST: ClassVar[int] = 1

    def seals(self, miner: Miner, epoch: EpochRecord) -> list[Batch]:
        """Random architectures, with leaves that are true up to some place."""
        if epoch.number < self.FIRST:
            return super().seals(miner, epoch)
        oracle, most = self.node.world.oracle, self.node.rules.consensus.commit_leaves
        honest = [miner.entry(epoch, genotype) for genotype in miner.propose(most)]
        forged = [oracle.forge(entry.genotype, epoch.seed, self.node.key) for entry in honest]
        return miner.seal(
            epoch, [dataclasses.replace(entry, leaves=leaves) for entry, leaves in zip(honest, forged, strict=True)]
        )

    def takes(self, transaction: Transaction) -> bool:
        """No challenges."""
        return transaction.kind != Kind.CHALLENGE


class FirstFaker(Faker):
    """Does so from the first competition on: who wins it whole keeps every challenge out of the chain."""

    FIRST = 0


class ManyFaker(Faker):
    """Opens all of them, so that there are more forged results than audits and challenges in a window."""

    def opens(self, ranked: list[Ranked], most: int) -> list[Ranked]:
        """Everything."""
        return ranked


class Accuser(Byzantine):
    """Challenges results of others, one in each slot."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._accused: set[bytes] = set()

    def on_slot(self, slot: int) -> None:
        """Says that the training of the next result of another does not begin as the seed demands."""
        node, state = self.node, self.node.chain.state
        for number in records.bonded_epochs(state):
            for result in node.world.competitions.results(node.chain, number)[1]:
                if result.id not in self._accused and result.owner != node.signing.public:
                    self._accused.add(result.id)
                    key = watch_key(node.index)
                    accuse(node, key, node.nonce_of(key), Kind.CHALLENGE, ChallengeBody(result.id, 0, b"", 0))
                    return


def _untrained(entry: Entry, number: int) -> Entry:
    leaves = tuple(digest("untrained", leaf, number.to_bytes(4, "big")) for leaf in entry.leaves)
    return dataclasses.replace(entry, leaves=leaves)
