"""Nodes that misbehave. They use the real rules to make what hurts most and still comes from their own seats."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bench.simulation.behaviours import Behaviour, Ranked
from bench.simulation.miner import Batch, Entry, Miner
from bench.simulation.network import Session
from bench.simulation.node import Node
from bench.simulation.setting import watch_key
from bench.simulation.watch import accuse
from chain.hashing import digest
from chain.types import (
    Block,
    CoinbaseBody,
    Header,
    Kind,
    Output,
    Transaction,
    TransferBody,
    coinbase_transaction,
    sign_transaction,
    transactions_root,
)
from consensus import records
from consensus.parameters import Phase
from consensus.types import ChallengeBody, CommitRecord, EpochRecord, Payout, RevealBody

HOLD = 6  # slots for which the first block of a secret branch is held back


class Byzantine(Behaviour):
    """Base of all that misbehave."""

    honest: ClassVar[bool] = False

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.extra: dict[bytes, Block] = {}  # blocks that are served though they are not on the node's chain

    def serves(self, session: Session, id: bytes) -> Block | None:
        """As the honest one, and what was made beside the chain."""
        return self.extra.get(id) or super().serves(session, id)

    def transfer(self, nonce: int, amount: int = 1) -> Transaction:
        """A payment to itself, so that a block differs from another."""
        node = self.node
        body = TransferBody((Output(node.signing.address, amount),))
        return sign_transaction(node.signing, node.rules.network, Kind.TRANSFER, nonce, 1000, body)


class Silent(Byzantine):
    """Never mints."""

    def mint(self, slot: int, seat: bytes) -> None:
        """Leave the slot empty."""


class Censor(Byzantine):
    """Leaves commits, reveals and beacons of others out of its blocks."""

    def takes(self, transaction: Transaction) -> bool:
        """Only what is its own."""
        return transaction.sender == self.node.signing.public


class Equivocator(Byzantine):
    """Mints two blocks for each of its slots, and shows each to half of its peers."""

    def mint(self, slot: int, seat: bytes) -> None:
        """The second block carries one transfer, the first what waits."""
        node = self.node
        node.world.observer.justice.offended(seat, slot)
        first = node.draft(slot, seat)
        header, transactions = node.chain.draft(slot, seat, node.signing.public, [self.transfer(node.nonce)])
        second = Block(header.signed(node.signing, node.rules.network), transactions)
        self.extra[second.id] = second
        node.publish(first)
        node.gossip.announce(second)

    def takes(self, transaction: Transaction) -> bool:
        """No evidence."""
        return transaction.kind != Kind.EVIDENCE

    def tells(self, session: Session, block: Block) -> bool:
        """Odd peers hear of the second block, even ones of the first."""
        if block.header.minter != self.node.signing.public:
            return True
        return (block.id in self.extra) == bool(session.peer.index % 2)


class Coalition:
    """What nodes that withhold blocks together know of one another."""

    def __init__(self) -> None:
        self.members: set[int] = set()
        self.secret: dict[bytes, int] = {}  # id and slot of each block that is held back
        self.released = 0


class Withholder(Byzantine):
    """Builds a branch in secret together with its like, and shows it when the first block is old enough."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._coalition: Coalition = node.world.coalition
        self._coalition.members.add(node.index)
        self._seen = 0

    def mint(self, slot: int, seat: bytes) -> None:
        """Mint for the coalition only."""
        block = self.node.draft(slot, seat)
        self._coalition.secret[block.id] = slot
        self.node.publish(block)

    def on_slot(self, slot: int) -> None:
        """Release what is old enough; announce the own tip after a release."""
        coalition = self._coalition
        if coalition.secret and min(coalition.secret.values()) <= slot - HOLD:
            coalition.secret.clear()
            coalition.released += 1
        if self._seen != coalition.released:
            self._seen = coalition.released
            tip = self.node.chain.block(self.node.chain.tip.id)
            if tip is not None:
                for session in list(self.node.sessions.values()):
                    self.node.gossip.tell(session, tip)

    def tells(self, session: Session, block: Block) -> bool:
        """Secret blocks stay in the coalition."""
        return block.id not in self._coalition.secret or session.peer.index in self._coalition.members

    def serves(self, session: Session, id: bytes) -> Block | None:
        """Secret blocks stay in the coalition."""
        if id in self._coalition.secret and session.peer.index not in self._coalition.members:
            return None
        return super().serves(session, id)


class Forger(Byzantine):
    """Floods with blocks that break a rule: in its own slots, and in those of others."""

    def on_slot(self, slot: int) -> None:
        """A block for whoever's slot this is, under its own key."""
        node = self.node
        if slot > node.chain.tip.slot:
            seat, owner = node.world.execution.leader(node.chain, slot)
            if owner != node.signing.public:
                self._show(node.draft(slot, seat))

    def mint(self, slot: int, seat: bytes) -> None:
        """A block with a false state root, or one whose coinbase pays too much."""
        block = self.node.draft(slot, seat)
        if slot % 2:
            self._show(self._signed(dataclasses.replace(block.header, state_root=digest("forged")), block.transactions))
            return
        body = CoinbaseBody.decode(block.transactions[0].body)
        outputs = (*body.outputs, Output(self.node.signing.address, 1))
        transactions = (coinbase_transaction(body.height, outputs), *block.transactions[1:])
        header = dataclasses.replace(block.header, transactions_root=transactions_root(transactions))
        self._show(self._signed(header, transactions))

    def _signed(self, header: Header, transactions: tuple[Transaction, ...]) -> Block:
        return Block(header.signed(self.node.signing, self.node.rules.network), transactions)

    def _show(self, block: Block) -> None:
        self.extra[block.id] = block
        self.node.gossip.announce(block)


class Keeper(Byzantine):
    """Seals like everybody, and reveals nothing."""

    def opens(self, ranked: list[Ranked]) -> list[Ranked]:
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


class Spammer(Byzantine):
    """Fills blocks and pools with payments to itself."""

    EACH_SLOT: ClassVar[int] = 8

    def on_slot(self, slot: int) -> None:
        """Some payments more."""
        nonce = self.node.nonce
        for number in range(self.EACH_SLOT):
            self.node.send(self.transfer(nonce + number, slot))


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


KINDS: dict[str, type[Behaviour]] = {
    "silent": Silent, "censor": Censor, "equivocate": Equivocator, "withhold": Withholder, "forge": Forger,
    "keep": Keeper, "copy": Copier, "grind": Grinder, "spam": Spammer,
    "fake": Faker, "fake-first": FirstFaker, "accuse": Accuser,
}  # fmt: skip
