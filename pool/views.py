"""What the HTTP API shows of a pool: plain values, ready for `dataclasses.asdict` and JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResultView:
    """A verified result. Addresses and hashes are in hexadecimal."""

    genotype: str
    text: str
    validation_correct: int
    validation_total: int
    model: str
    finder: str


@dataclass(frozen=True, slots=True)
class SubspaceView:
    """`size` architectures share the genotype prefix, `results` of them have a result, the best predicts `best`."""

    prefix: str
    size: int
    results: int
    best: int | None


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """The pool as a whole. `earned`, `paid`, `carried`, `reserved` are points; `closes` is Unix time in seconds."""

    epoch: int | None
    task: str | None
    task_name: str | None
    leasing: bool
    closes: float | None
    baseline_correct: int | None
    validation_samples: int | None
    members: int
    members_seen: int
    shares: int
    results: int
    leases: int
    waiting_for_backup: int
    subspaces: tuple[SubspaceView, ...]
    earned: int
    paid: int
    carried: int
    reserved: int
    best: tuple[ResultView, ...]


@dataclass(frozen=True, slots=True)
class RejectionView:
    """A rejected share. `at` is Unix time in seconds."""

    at: float
    share: str
    genotype: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A live lease. `step` counts the steps that its holder reported, over all genotypes."""

    id: int
    genotypes: tuple[str, ...]
    step: int
    deadline: float


@dataclass(frozen=True, slots=True)
class PaymentView:
    """A seated result whose payout table names the member: `weight` of `total`. `points` were settled by it."""

    result: str
    epoch: int
    weight: int
    total: int
    points: int


@dataclass(frozen=True, slots=True)
class MemberSummary:
    """One member: earned = paid + carried, and `reserved` is the part of `carried` in undecided rounds.

    `contested` points are not earned yet: another member's share contradicts the one that would earn them.
    """

    address: str
    banned: bool
    ban_reason: str | None
    shares: int
    earned: int
    paid: int
    carried: int
    reserved: int
    contested: int
    leases: tuple[LeaseView, ...]
    best: ResultView | None
    payments: tuple[PaymentView, ...]
    rejections: tuple[RejectionView, ...]
