"""What the consensus puts into transactions, and what it keeps in the state. Source: protocol C4 to C9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from chain.encoding import U32, U64, Address, Amount, Hash, PublicKey, Range, Record, Size
from chain.hashing import digest
from chain.types import Header, Part
from consensus.parameters import LONGEST_WINDOW

MaybeHash = Annotated[bytes, Size(0, 32)]  # empty, or 32 bytes
Genotype = Annotated[bytes, Size(1, 256)]
Leaves = Annotated[tuple[Hash, ...], Size(3, 258)]
BASELINE_UNIT = 10_000
MOST_SPLITS = 64  # sealed test splits of a task


@dataclass(frozen=True, slots=True)
class TaskSpec(Record):
    """A task: data, search space, limits and training recipe. `baseline` is an accuracy in 1/10,000."""

    name: Annotated[str, Size(1, 64)]
    dataset: Hash
    dataset_bytes: U32
    height: Annotated[int, Range(1, 1024)]
    width: Annotated[int, Range(1, 1024)]
    channels: Annotated[int, Range(1, 1024)]
    classes: Annotated[int, Range(2, 1000)]
    test_samples: Annotated[int, Range(1, 2**31)]
    space: Annotated[str, Size(1, 32)]
    max_parameters: U32
    max_macs: U64
    steps: Annotated[int, Range(1, 1_000_000)]
    batch: Annotated[int, Range(1, 4096)]
    segments: Annotated[int, Range(1, 256)]
    learning_rate: Annotated[int, Range(1, 1 << 14)]
    eval_samples: U32
    baseline: Annotated[int, Range(0, BASELINE_UNIT)]
    bounty_per_epoch: Amount

    @property
    def evaluated(self) -> int:
        """How many test samples the beacon draws: all, where the split is smaller than `eval_samples`."""
        return min(self.eval_samples, self.test_samples)

    @property
    def baseline_correct(self) -> int:
        """Fewest correct predictions that earn anything."""
        return -(-self.baseline * self.evaluated // BASELINE_UNIT)


def task_id(spec: TaskSpec, origin: bytes) -> bytes:
    """Id of a task. `origin` is the publishing transaction's signed content, or empty for a task of the genesis."""
    return digest("ponas/task", spec.encode(), origin)


@dataclass(frozen=True, slots=True)
class Payout(Record):
    """One line of a payout table."""

    address: Address
    weight: Annotated[int, Range(1, 2**32 - 1)]


Payouts = Annotated[tuple[Payout, ...], Size(1, 4096)]


@dataclass(frozen=True, slots=True)
class SealedSplit(Record):
    """A test split that nobody but its publisher can read yet: an encrypted artifact, and the hash of its key."""

    artifact: Hash
    key_hash: Hash


SealedSplits = Annotated[tuple[SealedSplit, ...], Size(0, MOST_SPLITS)]


@dataclass(frozen=True, slots=True)
class PublishBody(Record):
    """Publishes a task and funds it for `epochs` competitions, the first ones judged by sealed splits, in order."""

    spec: TaskSpec
    epochs: Annotated[int, Range(1, 1 << 20)]
    splits: SealedSplits


@dataclass(frozen=True, slots=True)
class CommitBody(Record):
    """Seals up to `leaves` results of an epoch under a Merkle root. `seed` is that of their trainings."""

    epoch: U64
    seed: Hash
    root: Hash
    leaves: Annotated[int, Range(1, 1 << 20)]


@dataclass(frozen=True, slots=True)
class RevealBody(Record):
    """Opens one sealed result. `leaves` are the checkpoint hashes of its training, the last one the model's id."""

    commit: Hash
    index: U32
    path: Annotated[tuple[Hash, ...], Size(0, 32)]
    salt: Hash
    genotype: Genotype
    leaves: Leaves
    model_bytes: U32
    correct: U32
    payouts: Payouts


@dataclass(frozen=True, slots=True)
class BeaconBody(Record):
    """The output and proof of the delay function of an epoch."""

    epoch: U64
    output: Annotated[bytes, Size(200, 200)]


@dataclass(frozen=True, slots=True)
class ChallengeBody(Record):
    """Says that a result's training does not lead from leaf `segment` to the next.

    `state` is the artifact of the state of that leaf. It is empty for segment 0, which begins with the initial state.
    """

    result: Hash
    segment: Annotated[int, Range(0, 256)]
    state: MaybeHash
    state_bytes: U32


@dataclass(frozen=True, slots=True)
class EvidenceBody(Record):
    """Two headers that one key signed for one slot. The seat of the first is accused."""

    first: Header
    second: Header


@dataclass(frozen=True, slots=True)
class KeyBody(Record):
    """The key of the sealed test split of an epoch."""

    epoch: U64
    key: Hash


def key_hash(key: bytes) -> bytes:
    """What a publisher commits to: hash of the 32-byte key of a sealed split."""
    return digest("ponas/split-key", key)


def seal(genotype: bytes, leaves: tuple[bytes, ...], owner: bytes, salt: bytes) -> bytes:
    """Leaf of a commit: binds genotype, training and owner, and hides them behind a 32-byte salt."""
    return digest("ponas/seal", genotype, digest("ponas/leaves", *leaves), owner, salt)


def beacon_value(output: bytes) -> bytes:
    """The beacon: hash of the delay function's output, without the proof, so that one output has one beacon."""
    return digest("ponas/beacon", output[: len(output) // 2])


def epoch_seed(beacon: bytes, epoch: int, task: bytes) -> bytes:
    """Seed of all training in an epoch; `beacon` is the last one on chain before it."""
    return digest("ponas/epoch-seed", beacon, epoch.to_bytes(8, "big"), task)


@dataclass(frozen=True, slots=True)
class TaskRecord(Record):
    """A task in the state. `epochs_left` competitions are still funded; `height` is where it was published.

    `splits`: sealed test splits of its next competitions, each with a deposit in escrow.
    """

    id: Hash
    spec: TaskSpec
    publisher: Address
    height: U64
    epochs_left: U32
    splits: SealedSplits


@dataclass(frozen=True, slots=True)
class EpochRecord(Record):
    """An epoch in the state. Hashes are empty until they are known; `void` once settled without a beacon.

    `settled_height` is 0 until it is settled. `sealed` is the artifact of its sealed test split, where it has one, and
    `key` what opens it, once shown.
    """

    number: U64
    task: Hash
    seed: Hash
    bounty: Amount
    sealed: MaybeHash
    key: MaybeHash
    boundary: MaybeHash
    beacon: MaybeHash
    commits: U32
    results: U32
    settled: bool
    void: bool
    settled_height: U64
    winners: Annotated[tuple[Hash, ...], Size(0, 65536)]


@dataclass(frozen=True, slots=True)
class CommitRecord(Record):
    """A commit in the state, until its epoch is settled."""

    id: Hash
    epoch: U64
    owner: PublicKey
    root: Hash
    leaves: U32
    deposit: Amount
    height: U64
    index: U32


@dataclass(frozen=True, slots=True)
class ResultRecord(Record):
    """A revealed and re-evaluated result. `reward` is its part of the bounty, once settled.

    `bond` is what lies in escrow for it. A result that was `revoked` has neither, nor a seat.
    """

    id: Hash
    epoch: U64
    task: Hash
    owner: PublicKey
    commit: Hash
    commit_height: U64
    commit_index: U32
    leaf_index: U32
    genotype: Genotype
    canonical: Genotype
    leaves: Leaves
    model_bytes: U32
    parameters: U64
    macs: U64
    correct: U32
    total: U32
    payouts: Payouts
    height: U64
    reward: Amount
    seated: bool
    bond: Amount
    revoked: bool

    @property
    def model(self) -> bytes:
        """Artifact id of the model."""
        return self.leaves[-1]

    @property
    def rank_key(self) -> tuple[int, int, int, int, int]:
        """Sorts results best first: more correct, fewer MACs, earlier commit."""
        return (-self.correct, self.macs, *self.commit_order)

    @property
    def commit_order(self) -> tuple[int, int, int]:
        """Sorts results by when they were sealed."""
        return (self.commit_height, self.commit_index, self.leaf_index)


@dataclass(frozen=True, slots=True)
class SeatRecord(Record):
    """A bootstrap seat."""

    id: Hash
    owner: PublicKey
    payouts: Payouts


@dataclass(frozen=True, slots=True)
class SeatGroup(Record):
    """The seats that one competition gave. From the block at height `closes` on they cannot be challenged any more,
    unless others come in."""

    epoch: U64
    closes: U64
    seats: Annotated[tuple[Hash, ...], Size(0, 65536)]


@dataclass(frozen=True, slots=True)
class SeatWindow(Record):
    """`groups` are the last `most` that became active; while there are fewer, the bootstrap seats are active as well.

    The seats in `pending` can still be challenged, and mint nothing.
    """

    most: U32
    groups: Annotated[tuple[SeatGroup, ...], Size(0, LONGEST_WINDOW)]
    pending: Annotated[tuple[SeatGroup, ...], Size(0, LONGEST_WINDOW)]


@dataclass(frozen=True, slots=True)
class HashList(Record):
    """A list of ids in the state."""

    items: Annotated[tuple[Hash, ...], Size(0, 65536)]


@dataclass(frozen=True, slots=True)
class EpochList(Record):
    """Numbers of epochs in the state."""

    items: Annotated[tuple[U64, ...], Size(0, 65536)]


@dataclass(frozen=True, slots=True)
class DueRecord(Record):
    """What the coinbase of the block at `height` owes beside subsidy and fees."""

    height: U64
    parts: Annotated[tuple[Part, ...], Size(0, 4096)]


@dataclass(frozen=True, slots=True)
class BlockCount(Record):
    """How many of a kind the block at `height` has carried so far."""

    height: U64
    count: U32
