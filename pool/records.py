"""What members sign, and what the pool's storage holds. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from chain.encoding import U8, U32, U64, Address, Hash, PublicKey, Range, Record, Signature, Size
from chain.hashing import digest
from chain.keys import PrivateKey, address_of, verify
from consensus.types import Genotype, Leaves, Payouts, TaskSpec
from pool.work import Work

Points = Annotated[int, Range(0, 2**53)]
Worker = Annotated[bytes, Size(1, 32)]
Prefix = Annotated[bytes, Size(0, 256)]
Genotypes = Annotated[tuple[Genotype, ...], Size(0, 256)]
FirstLeaves = Annotated[tuple[Hash, ...], Size(2, 257)]
Code = Annotated[str, Size(1, 64)]
MOST_REASON = 500
Reason = Annotated[str, Size(0, MOST_REASON)]


def clip(reason: object) -> str:
    """As much of a reason as a record holds."""
    return str(reason)[:MOST_REASON]


def milliseconds(seconds: float) -> int:
    """Unix time as records hold it."""
    return round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Share(Record):
    """A member's statement: this training gave these leaves and this validation score.

    The model's artifact id is the last leaf, the payout address is that of `member`.
    """

    network: Hash
    epoch: U64
    task: Hash
    lease: U64
    genotype: Genotype
    leaves: Leaves
    validation_correct: U32
    model_bytes: U32
    member: PublicKey

    @property
    def id(self) -> bytes:
        """What the member signs."""
        return digest("ponas/pool-share", self.encode())

    @property
    def model(self) -> bytes:
        """Artifact id of the model."""
        return self.leaves[-1]

    @property
    def address(self) -> bytes:
        """Who is paid for this share."""
        return address_of(self.member)


@dataclass(frozen=True, slots=True)
class SignedShare(Record):
    """A share and its member's signature."""

    share: Share
    signature: Signature

    def verify(self) -> None:
        """Raise BadSignature unless the stated member signed."""
        verify(self.share.member, self.signature, self.share.id)


def sign_share(share: Share, key: PrivateKey) -> SignedShare:
    """`share` signed by `key`."""
    return SignedShare(share, key.sign(share.id))


@dataclass(frozen=True, slots=True)
class Checkpoint(Record):
    """A member's statement: this training gave these first leaves. The last one is the hash of a state that it uploads.

    There are at least two: anybody has the state before the first step.
    """

    network: Hash
    epoch: U64
    task: Hash
    lease: U64
    genotype: Genotype
    leaves: FirstLeaves
    state_bytes: U32
    member: PublicKey

    @property
    def id(self) -> bytes:
        """What the member signs."""
        return digest("ponas/pool-checkpoint", self.encode())

    @property
    def state(self) -> bytes:
        """SHA-256 of the state."""
        return self.leaves[-1]

    @property
    def address(self) -> bytes:
        """Who made the statement."""
        return address_of(self.member)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint(Record):
    """A checkpoint and its member's signature."""

    checkpoint: Checkpoint
    signature: Signature

    def verify(self) -> None:
        """Raise BadSignature unless the stated member signed."""
        verify(self.checkpoint.member, self.signature, self.checkpoint.id)


def sign_checkpoint(checkpoint: Checkpoint, key: PrivateKey) -> SignedCheckpoint:
    """`checkpoint` signed by `key`."""
    return SignedCheckpoint(checkpoint, key.sign(checkpoint.id))


@dataclass(frozen=True, slots=True)
class WorkRecord(Record):
    """A `Work`."""

    epoch: U64
    task: Hash
    spec: TaskSpec
    seed: Hash
    closes: U64
    validation_samples: U32

    @classmethod
    def of(cls, work: Work) -> WorkRecord:
        """The record of `work`."""
        closes = milliseconds(work.closes)
        return cls(work.epoch, work.task, work.spec, work.seed, closes, work.validation_samples)

    @property
    def work(self) -> Work:
        """The work it stands for."""
        return Work(self.epoch, self.task, self.spec, self.seed, self.closes / 1000, self.validation_samples)


@dataclass(frozen=True, slots=True)
class LeaseRecord(Record):
    """A lease: `open` are the genotypes without a result, `audits` those leased to compare results.

    `backed` once a backup was asked for, `expired` once the lease was lost.
    """

    id: U64
    member: Address
    worker: Worker
    prefix: Prefix
    genotypes: Genotypes
    open: Genotypes
    audits: Genotypes
    granted: U64
    deadline: U64
    backed: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class RejectionRecord(Record):
    """A share that was refused, and why. `number` counts the member's rejections."""

    number: U64
    at: U64
    share: Hash
    genotype: Genotype
    code: Code
    reason: Reason


@dataclass(frozen=True, slots=True)
class Credit(Record):
    """Points of one member."""

    address: Address
    points: Points


Credits = Annotated[tuple[Credit, ...], Size(0, 1 << 16)]
FEE_UNIT = 10_000


@dataclass(frozen=True, slots=True)
class Terms(Record):
    """How the pool divides what it wins.

    `window` is PPLNS's window in points, `fee` the operator's part of every table in 1/10,000, and `minimum` the
    fewest points for a line of a table: members with fewer are carried over.
    """

    scheme: Annotated[str, Size(1, 32)] = "proportional"
    window: Points = 0
    fee: Annotated[int, Range(0, FEE_UNIT // 2)] = 0
    operator: Address = bytes(20)
    minimum: Annotated[int, Range(1, 2**53)] = 1


@dataclass(frozen=True, slots=True)
class WorkEntry(Record):
    """Ledger: a search begins."""

    at: U64
    work: WorkRecord


@dataclass(frozen=True, slots=True)
class ShareEntry(Record):
    """Ledger: a share was verified, and earned `points`."""

    at: U64
    signed: SignedShare
    points: Points


@dataclass(frozen=True, slots=True)
class RoundEntry(Record):
    """Ledger: the payout tables of `epoch` carry these points, which are reserved until the round is decided.

    Under PPLNS the window begins with ledger entry `since`, of whose points the first `cut` lie outside.
    """

    epoch: U64
    credits: Credits
    terms: Terms
    since: U64
    cut: Points


@dataclass(frozen=True, slots=True)
class PaidEntry(Record):
    """Ledger: a result whose reveal carried `table` took a seat. `debits` are the points that this settles."""

    result: Hash
    epoch: U64
    table: Payouts
    debits: Credits


@dataclass(frozen=True, slots=True)
class VoidEntry(Record):
    """Ledger: no result of `epoch` paid; the round's points are carried over."""

    epoch: U64


@dataclass(frozen=True, slots=True)
class RefutedEntry(Record):
    """Ledger: replaying proved a share wrong. The member forfeits `points` and its place."""

    at: U64
    share: Hash
    member: Address
    points: Points
    reason: Reason


@dataclass(frozen=True, slots=True)
class TermsEntry(Record):
    """Ledger: these terms hold from here on. The window before begins as in a round; given up, it is earned whole."""

    terms: Terms
    since: U64
    cut: Points


@dataclass(frozen=True, slots=True)
class BanEntry(Record):
    """Ledger: the operator shuts a member out, or lets it in again. What the member is owed stays owed."""

    at: U64
    member: Address
    banned: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class ContestedEntry(Record):
    """Ledger: a share was verified, but contradicts another member's. It earns nothing until a replay tells who lied.

    Then a RefutedEntry takes its member's place, or a ShareEntry credits `points` for it.
    """

    at: U64
    signed: SignedShare
    points: Points


@dataclass(frozen=True, slots=True)
class ResumedEntry(ShareEntry):
    """Ledger: a share, of which the first leaves are those of another member's checkpoint that it went on from."""

    checkpoint: SignedCheckpoint


@dataclass(frozen=True, slots=True)
class VoidedEntry(Record):
    """Ledger: the share of entry `number` is false, as the checkpoint was that it went on from.

    The uploader was refuted; the member loses `points` of those that no table carries yet, and nothing else.
    """

    at: U64
    number: U64
    member: Address
    points: Points
    reason: Reason


@dataclass(frozen=True, slots=True)
class ConfirmedEntry(ShareEntry):
    """Ledger: a share that says the same as another member's, the entry of number `first`: credited, but no find."""

    first: U64


Entry = (
    WorkEntry
    | ShareEntry
    | RoundEntry
    | PaidEntry
    | VoidEntry
    | RefutedEntry
    | TermsEntry
    | BanEntry
    | ContestedEntry
    | VoidedEntry
)
KINDS: tuple[type[Entry], ...] = (
    WorkEntry, ShareEntry, RoundEntry, PaidEntry, VoidEntry, RefutedEntry, TermsEntry, BanEntry, ContestedEntry,
    ResumedEntry, VoidedEntry, ConfirmedEntry,
)  # fmt: skip
KIND: dict[type[Entry], U8] = {cls: number for number, cls in enumerate(KINDS)}
