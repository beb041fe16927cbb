"""Checkpoints on their way through the pool: what may be uploaded, and who may go on from it.

A state is handed on only when the lease that it came by is over, or its holder has not advanced for half the silence
that ends it: so nobody who goes on training loses a race against its own upload.
Whoever goes on from another member's state uploads none of that training: so there are never more than two members
whose claims a share's leaves are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chain.errors import BadSignature
from pool.errors import StateRefused
from pool.records import SignedCheckpoint, milliseconds

if TYPE_CHECKING:
    from pool.leases import Held
    from pool.pool import Pool

_HEADER, _PER_PARAMETER = 16, 16
"""No state is larger: eight bytes for a weight and its momentum, and at most eight for the means of its channel."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A checkpoint to go on from; `own` where the member itself uploaded it."""

    signed: SignedCheckpoint
    own: bool


def check(pool: Pool, member_key: bytes, signed: SignedCheckpoint) -> None:
    """All that can be said of a checkpoint before its state has come. Raises StateRefused."""
    checkpoint = signed.checkpoint
    if checkpoint.member != member_key or checkpoint.network != pool.settings.network:
        raise StateRefused("the checkpoint is another member's, or for another network", "wrong_member")
    try:
        signed.verify()
    except BadSignature as error:
        raise StateRefused("the signature of the checkpoint does not verify", "bad_signature") from error
    reason, work, genotype = pool.book.ban_of(checkpoint.address), pool.work, checkpoint.genotype
    if reason is not None:
        raise StateRefused(reason, "banned")
    if work is None or (checkpoint.epoch, checkpoint.task) != (work.epoch, work.task):
        raise StateRefused(f"the search of epoch {checkpoint.epoch} is over", "stale_work")
    held = pool.leases.held_by(checkpoint.address, checkpoint.lease)
    if held is None or not held.holds(genotype):
        raise StateRefused(f"lease {checkpoint.lease} does not hold this architecture", "not_leased")
    if pool.relays.handed(checkpoint.lease, genotype) is not None:
        raise StateRefused("a training that went on from another member's state is not handed on", "resumed")
    if len(checkpoint.leaves) > work.spec.segments + 1:
        raise StateRefused(f"{len(checkpoint.leaves)} leaves are more than there are states", "bad_leaves")
    cost = pool.archives[work.id][1].domain.cost(genotype)
    most = _HEADER + _PER_PARAMETER * (cost.parameters if cost is not None else 0)
    if checkpoint.state_bytes > min(most, pool.settings.max_state_bytes):
        raise StateRefused(f"a state of {checkpoint.state_bytes} bytes is too large", "too_large")
    earlier = pool.relays.kept(genotype).get(checkpoint.lease)
    if earlier is not None:
        before = earlier.checkpoint.leaves
        if len(checkpoint.leaves) <= len(before):
            raise StateRefused("there is a later state of this training", "not_newer")
        if checkpoint.leaves[: len(before)] != before:
            raise StateRefused("the leaves are not those of the state before", "contradiction")


def keep(pool: Pool, member_key: bytes, signed: SignedCheckpoint, now: float) -> None:
    """The state has come and is stored: others may go on from it. Raises StateRefused, as time has passed."""
    check(pool, member_key, signed)
    pool.write(pool.relays.keep(signed, milliseconds(now)))


def offers(pool: Pool, member: bytes, lease: int, now: float) -> list[Offer]:
    """What the holder of a lease may go on from: of each of its architectures the longest training."""
    held = pool.leases.held_by(member, lease)
    if held is None or held.expired:
        return []
    found = (_offer(pool, held, genotype, now) for genotype in held.left)
    return [offer for offer in found if offer is not None]


def hand(pool: Pool, member: bytes, lease: int, genotype: bytes, now: float) -> SignedCheckpoint:
    """The holder of a lease fetches a checkpoint that it was offered. Raises StateRefused where there is none now."""
    held, work = pool.leases.held_by(member, lease), pool.work
    if held is None or not held.holds(genotype) or work is None:
        raise StateRefused("this lease does not hold this architecture", "not_leased")
    offer = _offer(pool, held, genotype, now)
    if offer is None:
        raise StateRefused("there is no state to go on from", "no_state")
    checkpoint = offer.signed.checkpoint
    if not offer.own and pool.relays.handed(lease, genotype) is None:
        pool.write(pool.relays.hand(lease, genotype, offer.signed))
    pool.leases.skip(held, genotype, (len(checkpoint.leaves) - 1) * work.spec.steps // work.spec.segments)
    return offer.signed


def _offer(pool: Pool, held: Held, genotype: bytes, now: float) -> Offer | None:
    member, number = held.lease.member, held.lease.id
    kept, handed = pool.relays.kept(genotype), pool.relays.handed(number, genotype)
    if handed is not None:
        return Offer(handed, False) if handed in kept.values() else None
    if number in kept:
        return Offer(kept[number], True)
    if genotype in held.audits:
        return None  # who compares a result must train it whole
    free = [signed for lease, signed in kept.items() if _over(pool, lease, genotype, now)]
    if not free:
        return None
    best = max(free, key=lambda signed: len(signed.checkpoint.leaves))
    return Offer(best, best.checkpoint.address == member)


def _over(pool: Pool, lease: int, genotype: bytes, now: float) -> bool:
    """Whether the holder of a lease is not expected to finish an architecture any more."""
    held = pool.leases.held.get(lease)
    if held is None or not held.holds(genotype):
        return True
    return held.heard is not None and now >= held.heard + pool.settings.silence_seconds / 2
