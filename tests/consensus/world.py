"""A chain with real rules and keys, driven slot by slot. Facts are answered from a table or by the real checks."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from pathlib import Path
from typing import Any

from chain import accounts
from chain.chain import Chain, Outcome
from chain.encoding import Record
from chain.errors import Invalid, Missing
from chain.immature import outputs_at
from chain.keys import PrivateKey
from chain.ledger import apply_transaction, begin
from chain.merkle import merkle_path, merkle_root
from chain.parameters import LedgerParameters
from chain.rules import BlockContext
from chain.state import Overlay
from chain.store import Store
from chain.types import Block, Header, Kind, Transaction, sign_transaction
from consensus import records
from consensus.facts import (
    FALSE,
    INVALID_MODEL,
    TRUE,
    BeaconFact,
    ChallengeFact,
    DatasetFact,
    KeyFact,
    ScoreFact,
    fact_key,
    facts_of,
)
from consensus.genesis import Allocation, BuiltInTask, Genesis
from consensus.parameters import ConsensusParameters
from consensus.rules import ConsensusRules
from consensus.spaces import get_space
from consensus.types import (
    BeaconBody,
    ChallengeBody,
    CommitBody,
    EvidenceBody,
    KeyBody,
    Payout,
    PublishBody,
    ResultRecord,
    RevealBody,
    SealedSplit,
    TaskSpec,
    key_hash,
    seal,
)

LEDGER = LedgerParameters(
    coinbase_maturity=24,
    max_rollback=40,
    max_block_bytes=1 << 18,
    fee_per_byte=1,
    subsidy=5_000_000,
    halving_blocks=1000,
)
CONSENSUS = ConsensusParameters(
    genesis_time=0, slot_milliseconds=1000, epoch_slots=20, commit_close=8, reveal_open=11, reveal_close=16,
    beacon_grace=2, seats=3, seat_epochs=1, rescue_slots=40, commits_per_epoch=8, commit_leaves=16,
    commit_deposit=1000, reveals_per_block=8, payout_entries=4, vdf_discriminant_bits=256, vdf_iterations=2000,
    max_model_bytes=1 << 20, max_dataset_bytes=1 << 20, max_tasks=4, reveal_bond=700, challenge_blocks=24,
    challenge_deposit=900, challenges_per_block=2, max_segment_macs=10**12, max_state_bytes=1 << 28, key_slots=2,
    split_deposit=5000,
)  # fmt: skip
SPEC = TaskSpec(
    name="table", dataset=bytes(32), dataset_bytes=100, height=8, width=8, channels=1, classes=10, test_samples=300,
    space="stages-v1", max_parameters=10**7, max_macs=10**9, steps=8, batch=8, segments=2, learning_rate=64,
    eval_samples=200, baseline=5000, bounty_per_epoch=0,
)  # fmt: skip


class TableFacts:
    """Facts from a table of scores; beacons and datasets are taken as true unless told otherwise."""

    def __init__(self) -> None:
        self.answers: dict[bytes, int] = {}
        self.scores: dict[bytes, int] = {}  # model id -> correct
        self.false: set[bytes] = set()  # beacon outputs, datasets and keys that do not verify
        self.forged: set[bytes] = set()  # leaves that do not follow from the one before

    def get(self, key: bytes) -> int | None:
        return self.answers.get(key)

    def establish(self, fact: object) -> None:
        if isinstance(fact, ScoreFact):
            answer = self.scores.get(fact.model, INVALID_MODEL)
        elif isinstance(fact, BeaconFact):
            answer = int(fact.output not in self.false)
        elif isinstance(fact, DatasetFact):
            answer = TRUE if fact.spec.dataset not in self.false else FALSE
        elif isinstance(fact, KeyFact):
            answer = TRUE if fact.key not in self.false else FALSE
        elif isinstance(fact, ChallengeFact):
            answer = TRUE if fact.after in self.forged else FALSE
        else:
            raise TypeError(f"{fact!r} is no fact")
        self.answers[fact_key(fact)] = answer


def split_of(i: int) -> tuple[bytes, bytes]:
    """Artifact and key of a sealed split."""
    return bytes([0x50, i]) * 16, bytes([0x4B, i]) * 16


@dataclasses.dataclass
class Found:
    """A sealed find of a test miner."""

    genotype: bytes
    leaves: tuple[bytes, ...]
    salt: bytes
    score: int


class World:
    """One chain, some keys, and the means to mint what a test needs."""

    def __init__(
        self, path: Path, keys: int = 3, spec: TaskSpec = SPEC, funded: int = 0, bootstrap: int = 1, **changes: int
    ) -> None:
        self.keys = [PrivateKey(bytes([i + 1]) * 32) for i in range(keys)]
        consensus = dataclasses.replace(CONSENSUS, **changes)
        allocations = tuple(Allocation(key.address, 10_000_000) for key in self.keys)
        self.genesis = Genesis(
            "test",
            LEDGER,
            consensus,
            allocations,
            tuple(key.public for key in self.keys[:bootstrap]),
            (BuiltInTask(spec, funded),),
        )
        self.facts = TableFacts()
        self.path = path
        self.rules = ConsensusRules(self.genesis, self.facts)
        self.store = Store(path, self.genesis.network)
        self.chain = Chain(self.store, self.rules)
        self.slot = 0
        self._salt = itertools.count(1)

    # ---- blocks

    def key_of(self, public: bytes) -> PrivateKey:
        return next(key for key in self.keys if key.public == public)

    def draft(self, *transactions: Transaction, slot: int | None = None) -> Block:
        slot = self.slot if slot is None else slot
        seat = self.rules.leader(self.chain.state, self.chain.tip, slot)
        holder = records.seat_holder(self.chain.state, seat)
        assert holder is not None
        for transaction in transactions:
            self.know(transaction, slot)
        header, chosen = self.chain.draft(slot, seat, holder[0], transactions)
        return Block(header.signed(self.key_of(holder[0]), self.rules.network), chosen)

    def know(self, transaction: Transaction, slot: int) -> None:
        """Establish the facts that a transaction needs in the next block."""
        overlay = Overlay(self.chain.state)
        context = BlockContext(self.chain.height + 1, slot, self.chain.tip.id, bytes(32))
        self.rules.begin_block(overlay, context)
        with contextlib.suppress(Invalid):
            for fact in self.rules.apply(overlay, context, transaction, 1):
                self.facts.establish(fact)

    def apply(self, transaction: Transaction, slot: int | None = None) -> None:
        """Apply a transaction as the next block (or that at `slot`) would; the chain stays as it is. Raises Invalid."""
        slot = self.slot + 1 if slot is None else slot
        self.know(transaction, slot)
        overlay = Overlay(self.chain.state)
        context = BlockContext(self.chain.height + 1, slot, self.chain.tip.id, bytes(32))
        begin(self.rules, overlay, context)
        apply_transaction(self.rules, overlay, context, transaction, 1)

    def resign(self, block: Block, **changes: Any) -> Block:
        """The block with another header or other transactions, signed by its minter."""
        transactions = changes.pop("transactions", block.transactions)
        header = dataclasses.replace(block.header, **changes)
        return Block(header.signed(self.key_of(header.minter), self.rules.network), transactions)

    def add(self, block: Block) -> Outcome:
        while True:
            try:
                return self.chain.add_block(block)
            except Missing as error:
                for fact in facts_of(error):
                    self.facts.establish(fact)

    def mint(self, *transactions: Transaction, slot: int | None = None) -> Block:
        """Mint the next block; every transaction must be in it."""
        self.slot = self.slot + 1 if slot is None else slot
        block = self.draft(*transactions)
        assert len(block.transactions) == 1 + len(transactions), "a transaction did not apply"
        self.add(block)
        self.check_supply()
        return block

    def block_at(self, height: int) -> Block:
        block = self.chain.block_at(height)
        assert block is not None
        return block

    def mint_to(self, offset: int) -> None:
        """Mint empty blocks until the next block will be at `offset` of an epoch."""
        while self.genesis.consensus.offset(self.slot + 1) != offset:
            self.mint()

    def check_supply(self) -> None:
        total = 0
        for key, value in self.store.state.items():
            if key.startswith(accounts.ACCOUNT):
                total += accounts.Account.decode(value).balance
        assert total == accounts.supply(self.chain.state)

    # ---- transactions

    def sign(self, key: PrivateKey, kind: Kind, body: Record, fee: int = 20_000, after: int = 0) -> Transaction:
        nonce = accounts.account(self.chain.state, key.address).nonce + after
        return sign_transaction(key, self.rules.network, kind, nonce, fee, body)

    def find(self, n: int, score: int, genotype: bytes | None = None) -> Found:
        """A find whose model scores `score`; `n` picks the architecture."""
        import random

        space = get_space(self.genesis.tasks[0].spec.space)
        genotype = genotype or space.sample(random.Random(n))
        salt = next(self._salt).to_bytes(32, "big")
        segments = self.genesis.tasks[0].spec.segments
        leaves = tuple(bytes([7, i]) + salt[2:] for i in range(segments + 2))
        self.facts.scores[leaves[-1]] = score
        return Found(genotype, leaves, salt, score)

    def seals(self, key: PrivateKey, found: list[Found]) -> list[bytes]:
        return [seal(f.genotype, f.leaves, key.public, f.salt) for f in found]

    def commit(self, key: PrivateKey, found: list[Found], after: int = 0) -> Transaction:
        epoch = records.current_epoch(self.chain.state)
        body = CommitBody(epoch.number, epoch.seed, merkle_root(self.seals(key, found)), len(found))
        return self.sign(key, Kind.COMMIT, body, after=after)

    def beacon(self, key: PrivateKey | None = None, output: bytes | None = None, after: int = 0) -> Transaction:
        epoch = records.current_epoch(self.chain.state).number
        body = BeaconBody(epoch, output or bytes([epoch % 251]) * 200)
        return self.sign(key or self.keys[-1], Kind.BEACON, body, fee=0, after=after)

    def reveal(
        self, key: PrivateKey, commit: Transaction, found: list[Found], i: int, after: int = 0, **changes: Any
    ) -> Transaction:
        f = found[i]
        body = RevealBody(
            commit.id, i, merkle_path(self.seals(key, found), i), f.salt, f.genotype, f.leaves, 100, f.score,
            (Payout(key.address, 1),),
        )  # fmt: skip
        return self.sign(key, Kind.REVEAL, dataclasses.replace(body, **changes), after=after)

    def challenge(
        self, key: PrivateKey, result: bytes, segment: int = 1, after: int = 0, **changes: Any
    ) -> Transaction:
        body = ChallengeBody(result, segment, bytes([1]) * 32 if segment else b"", 500 if segment else 0)
        return self.sign(key, Kind.CHALLENGE, dataclasses.replace(body, **changes), after=after)

    def evidence(self, reporter: PrivateKey, first: Header, second: Header, after: int = 0) -> Transaction:
        return self.sign(reporter, Kind.EVIDENCE, EvidenceBody(first, second), after=after)

    def publish(self, key: PrivateKey, spec: TaskSpec, epochs: int, splits: int = 0) -> Transaction:
        """Publishes a task whose sealed split i has the artifact and the key of `split_of(i)`."""
        sealed = tuple(SealedSplit(artifact, key_hash(secret)) for artifact, secret in map(split_of, range(splits)))
        return self.sign(key, Kind.PUBLISH, PublishBody(spec, epochs, sealed))

    def show(self, key: PrivateKey, split: int, epoch: int | None = None) -> Transaction:
        """Shows the key of sealed split `split`."""
        number = records.current_epoch(self.chain.state).number if epoch is None else epoch
        return self.sign(key, Kind.KEY, KeyBody(number, split_of(split)[1]))

    def balance(self, key: PrivateKey) -> int:
        return accounts.account(self.chain.state, key.address).balance

    def immature_of(self, key: PrivateKey) -> int:
        """What coinbases have paid to a key that has not matured."""
        heights = range(max(1, self.chain.height - LEDGER.coinbase_maturity), self.chain.height + 1)
        outputs = [output for height in heights for output in outputs_at(self.chain.state, height)]
        return sum(output.amount for output in outputs if output.address == key.address)

    def result(self, id: bytes) -> ResultRecord:
        found = records.result(self.chain.state, id)
        assert found is not None
        return found

    def sealed(self, entries: dict[int, list[Found]]) -> dict[int, Transaction]:
        """Run an epoch in which key i commits entries[i] up to where the results can be revealed; the commits."""
        self.mint_to(1)
        commits = {i: self.commit(self.keys[i], found) for i, found in entries.items()}
        self.mint(*commits.values())
        self.mint_to(self.genesis.consensus.commit_close + 1)
        self.mint(self.beacon())
        self.mint_to(self.genesis.consensus.reveal_open)
        return commits

    def revealed(self, entries: dict[int, list[Found]]) -> dict[int, list[Transaction]]:
        """Run an epoch in which key i commits and reveals entries[i]; ends right after the reveals."""
        commits = self.sealed(entries)
        reveals = {
            i: [self.reveal(self.keys[i], commits[i], found, j, after=j) for j in range(len(found))]
            for i, found in entries.items()
        }
        self.mint(*[reveal for group in reveals.values() for reveal in group])
        return reveals

    @property
    def pending(self) -> tuple[bytes, ...]:
        """Seats that can still be challenged."""
        return records.pending_seats(self.chain.state)

    def activate(self) -> None:
        """Mint empty blocks until no seat can be challenged any more."""
        while self.pending:
            self.mint()

    def competition(self, entries: dict[int, list[Found]]) -> dict[int, list[Transaction]]:
        """Run one whole epoch in which key i commits and reveals entries[i]; ends right after settlement."""
        reveals = self.revealed(entries)
        self.mint_to(self.genesis.consensus.reveal_close)
        self.mint()
        return reveals
