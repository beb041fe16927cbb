"""Builds the views of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.search import Archive
from pool.views import LeaseView, MemberSummary, PaymentView, PoolSummary, RejectionView, ResultView, SubspaceView
from pool.work import Candidate

if TYPE_CHECKING:
    from pool.pool import Pool

BEST = 10


def summary(pool: Pool) -> PoolSummary:
    """The pool as a whole."""
    work, archive, book = pool.work, pool.archive, pool.book
    earned, paid = sum(book.earned.values()), sum(book.paid.values())
    return PoolSummary(
        epoch=work.epoch if work else None,
        task=work.task.hex() if work else None,
        task_name=work.spec.name if work else None,
        leasing=pool.leasing,
        closes=work.closes if work else None,
        baseline_correct=work.baseline_correct if work else None,
        validation_samples=work.validation_samples if work else None,
        members=len(book.shares),
        members_seen=len({address for address, _ in pool.seen}),
        shares=sum(book.shares.values()),
        results=len(archive) if archive is not None else 0,
        leases=len(pool.leases.live()),
        waiting_for_backup=sum(len(returned.genotypes) for returned in pool.leases.queue),
        subspaces=_subspaces(archive) if archive is not None else (),
        earned=earned,
        paid=paid,
        carried=earned - paid,
        reserved=sum(book.reserved().values()),
        best=tuple(_result(archive, result) for result in archive.best(BEST)) if archive is not None else (),
    )


def member(pool: Pool, address: bytes) -> MemberSummary | None:
    """One member; None where the pool knows nothing of it."""
    book, archive = pool.book, pool.archive
    rejections = pool.rejections.of(address)
    leases = [held for held in pool.leases.live() if held.lease.member == address]
    credited = address in book.shares or book.undecided(address) > 0
    known = credited or book.ban_of(address) or any(address == other for other, _ in pool.seen)
    if not (known or rejections or leases):
        return None
    mine = [result for result in archive if result.finder == address] if archive is not None else []
    best = min(mine, key=lambda result: archive.rank(result.genotype)) if archive is not None and mine else None
    return MemberSummary(
        address=address.hex(),
        banned=book.ban_of(address) is not None,
        ban_reason=book.ban_of(address),
        shares=book.shares[address],
        earned=book.earned[address],
        paid=book.paid[address],
        carried=book.carried(address),
        reserved=book.reserved()[address],
        contested=book.undecided(address),
        leases=tuple(
            LeaseView(held.lease.id, tuple(genotype.hex() for genotype in held.left), held.step, held.lease.deadline)
            for held in leases
        ),
        best=_result(archive, best) if archive is not None and best is not None else None,
        payments=_payments(pool, address),
        rejections=tuple(
            RejectionView(r.at / 1000, r.share.hex(), r.genotype.hex(), r.code, r.reason) for r in rejections
        ),
    )


def _subspaces(archive: Archive) -> tuple[SubspaceView, ...]:
    leaves = archive.domain.partition.leaves.values()
    views = [SubspaceView(leaf.prefix.hex(), leaf.size, len(leaf.results), leaf.best) for leaf in leaves]
    return tuple(sorted(views, key=lambda view: view.prefix))


def _payments(pool: Pool, address: bytes) -> tuple[PaymentView, ...]:
    found = []
    for entry in reversed(pool.book.recent):
        weights = {payout.address: payout.weight for payout in entry.table}
        if address in weights:
            points = sum(credit.points for credit in entry.debits if credit.address == address)
            total = sum(weights.values())
            found.append(PaymentView(entry.result.hex(), entry.epoch, weights[address], total, points))
    return tuple(found)


def _result(archive: Archive, result: Candidate) -> ResultView:
    return ResultView(
        result.genotype.hex(),
        archive.domain.space.text(result.genotype),
        result.validation_correct,
        result.validation_total,
        result.model.hex(),
        result.finder.hex(),
    )
