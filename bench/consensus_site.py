"""Full nodes under the real rules without sockets or clocks: one drafts the blocks, and each judges them by itself.

Each has its own database and its own facts, established by the jobs that a node's worker runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chain import accounts
from chain.chain import Chain
from chain.encoding import Record
from chain.errors import Missing
from chain.keys import PrivateKey
from chain.ledger import begin
from chain.merkle import merkle_path, merkle_root
from chain.parameters import LedgerParameters
from chain.rules import BlockContext
from chain.state import Overlay
from chain.store import Store
from chain.types import Block, Kind, Transaction, sign_transaction
from consensus import records, vdf
from consensus.facts import BeaconFact, ChallengeFact, Fact, ScoreFact, fact_key, facts_of, score_fact
from consensus.genesis import Allocation, BuiltInTask, Genesis
from consensus.parameters import ConsensusParameters
from consensus.rules import ConsensusRules
from consensus.types import BeaconBody, CommitBody, Payout, RevealBody, TaskSpec, seal
from ponas_node import jobs, replays
from ponas_node.artifacts import ArtifactStore

LEDGER = LedgerParameters(
    coinbase_maturity=24, max_rollback=40, max_block_bytes=1 << 20, fee_per_byte=1, subsidy=1000, halving_blocks=10**6
)
CONSENSUS = ConsensusParameters(
    genesis_time=0, slot_milliseconds=1000, epoch_slots=20, commit_close=8, reveal_open=11, reveal_close=16,
    beacon_grace=2, seats=8, seat_epochs=2, rescue_slots=40, commits_per_epoch=8,
    commit_leaves=512, commit_deposit=1000, reveals_per_block=256, payout_entries=4, vdf_discriminant_bits=256,
    vdf_iterations=2000, max_model_bytes=1 << 20, max_dataset_bytes=1 << 20, max_tasks=4, reveal_bond=1000,
    challenge_blocks=24, challenge_deposit=1000, challenges_per_block=256, max_segment_macs=10**11,
    max_state_bytes=1 << 24, key_slots=2, split_deposit=5000,
)  # fmt: skip
MINER, AUDITOR = PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32)
_FEE = 20_000


class Peer:
    """One node."""

    def __init__(self, folder: Path, genesis: Genesis, artifacts: Path) -> None:
        self._known: dict[bytes, int] = {}
        self._artifacts = str(artifacts)
        self.rules = ConsensusRules(genesis, self)
        self.store = Store(folder, genesis.network)
        self.chain = Chain(self.store, self.rules)

    def get(self, key: bytes) -> int | None:
        """The answer to a fact, where this node has established it."""
        return self._known.get(key)

    def establish(self, fact: Fact) -> int:
        """Do the work that a fact takes."""
        if isinstance(fact, ScoreFact):
            answer = jobs.score(fact.encode(), self._artifacts, "cpu")
        elif isinstance(fact, ChallengeFact):
            answer = replays.challenge(fact.encode(), self._artifacts, "cpu")
        elif isinstance(fact, BeaconFact):
            answer = jobs.check_beacon(fact.encode())
        else:
            answer = jobs.check_dataset(fact.encode(), self._artifacts)
        self._known[fact_key(fact)] = answer
        return answer

    def take(self, block: Block) -> None:
        """Judge a block; raises Invalid."""
        while True:
            try:
                self.chain.add_block(block)
            except Missing as error:
                for fact in facts_of(error):
                    self.establish(fact)
            else:
                return


class Site:
    """Peers that all take every block. `MINER` owns every seat; artifacts lie in one folder."""

    def __init__(self, folder: Path, spec: TaskSpec, peers: int) -> None:
        self.artifacts = ArtifactStore(folder / "artifacts")
        allocations = tuple(Allocation(key.address, 10**12) for key in (MINER, AUDITOR))
        self.genesis = Genesis("bench", LEDGER, CONSENSUS, allocations, (MINER.public,), (BuiltInTask(spec, 0),))
        self.peers = [Peer(folder / f"peer-{n}", self.genesis, self.artifacts.root) for n in range(peers)]
        self.slot = 0

    @property
    def first(self) -> Peer:
        """The peer that drafts the blocks."""
        return self.peers[0]

    def close(self) -> None:
        """Close the databases."""
        for peer in self.peers:
            peer.store.close()

    def mint(self, *transactions: Transaction) -> None:
        """A block with all these transactions, which every peer takes."""
        self.slot += 1
        chain = self.first.chain
        seat = self.first.rules.leader(chain.state, chain.tip, self.slot)
        for _ in range(2):  # a draft leaves out what needs facts, so they are established in between
            header, chosen = chain.draft(self.slot, seat, MINER.public, transactions)
            if len(chosen) == 1 + len(transactions):
                break
            self._know(transactions)
        if len(chosen) != 1 + len(transactions):
            raise RuntimeError(f"{1 + len(transactions) - len(chosen)} transactions do not apply")
        block = Block(header.signed(MINER, self.genesis.network), chosen)
        for peer in self.peers:
            peer.take(block)

    def mint_to(self, offset: int) -> None:
        """Empty blocks, until the next one is at `offset` of an epoch."""
        while CONSENSUS.offset(self.slot + 1) != offset:
            self.mint()

    def _know(self, transactions: Sequence[Transaction]) -> None:
        """Let the first peer establish what the transactions need."""
        chain = self.first.chain
        overlay = Overlay(chain.state)
        context = BlockContext(chain.height + 1, self.slot, chain.tip.id, bytes(32))
        begin(self.first.rules, overlay, context)
        for index, transaction in enumerate(transactions, start=1):
            for fact in self.first.rules.apply(Overlay(overlay), context, transaction, index):
                self.first.establish(fact)

    def sign(self, key: PrivateKey, kind: Kind, body: Record, after: int = 0, fee: int = _FEE) -> Transaction:
        """A transaction; `after` counts those of the same key before it in the block."""
        nonce = accounts.account(self.first.chain.state, key.address).nonce + after
        return sign_transaction(key, self.genesis.network, kind, nonce, fee, body)

    def compete(self, claims: Sequence[tuple[bytes, tuple[bytes, ...], int]]) -> list[bytes]:
        """One competition in which `MINER` seals and reveals claims of (genotype, leaves, size of the model).

        Returns the ids of the results, in the same order; ends right after settlement.
        """
        epoch = records.current_epoch(self.first.chain.state)
        salt = bytes(32)
        seals = [seal(genotype, leaves, MINER.public, salt) for genotype, leaves, _ in claims]
        self.mint_to(1)
        commit = self.sign(MINER, Kind.COMMIT, CommitBody(epoch.number, epoch.seed, merkle_root(seals), len(seals)))
        self.mint(commit)
        self.mint_to(CONSENSUS.commit_close + 1)
        boundary = records.current_epoch(self.first.chain.state).boundary
        output = vdf.prove(boundary, CONSENSUS.vdf_discriminant_bits, CONSENSUS.vdf_iterations)
        self.mint(self.sign(MINER, Kind.BEACON, BeaconBody(epoch.number, output), fee=0))
        self.mint_to(CONSENSUS.reveal_open)
        reveals = [
            self.sign(MINER, Kind.REVEAL, self._reveal(commit.id, seals, place, *claim), after=place)
            for place, claim in enumerate(claims)
        ]
        self.mint(*reveals)
        self.mint_to(CONSENSUS.reveal_close)
        self.mint()
        return [reveal.id for reveal in reveals]

    def _reveal(
        self, commit: bytes, seals: list[bytes], place: int, genotype: bytes, leaves: tuple[bytes, ...], size: int
    ) -> RevealBody:
        """Opens a seal, with the true score: whoever lies there is refused at once."""
        epoch = records.current_epoch(self.first.chain.state)
        score = score_fact(self.genesis.tasks[0].spec, epoch, genotype, leaves[-1], size)
        correct = self.first.establish(score)
        path = merkle_path(seals, place)
        payouts = (Payout(MINER.address, 1),)
        return RevealBody(commit, place, path, bytes(32), genotype, leaves, size, correct, payouts)
