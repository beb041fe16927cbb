"""What the pool itself trains again, and what follows: a liar loses its unpaid points and its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.audit import DISPUTED, PASSED, REPLAYED, WAITING, Check
from pool.checks import leaf_count
from pool.records import RefutedEntry, ShareEntry, SignedShare, VoidedEntry, clip, milliseconds
from pool.work import Work

if TYPE_CHECKING:
    from pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Replay:
    """Train `genotype` of `work` again, and find its first `leaves` leaves."""

    work: Work
    genotype: bytes
    leaves: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one member says of a training. `share` names the statement."""

    member: bytes
    share: bytes
    leaves: tuple[bytes, ...]


def replays(pool: Pool, now: float) -> list[Replay]:
    """What to train again, most urgent first.

    Disputes, up to the leaf where the sides part; then, once a search is over, a few of the checks that no member took,
    drawn at random.
    """
    found = []
    for work_id, genotype in pool.audits.checks(DISPUTED):
        sides = [claim.leaves for claim in claims(pool, work_id, genotype)]
        parted = [place for place, leaves in enumerate(zip(*sides, strict=True)) if len(set(leaves)) > 1]
        if parted:
            found.append(Replay(pool.archives[work_id][0], genotype, parted[0] + 1))
    for work, _ in pool.archives.values():
        if now >= work.closes:
            found += _left_over(pool, work)
    return found


def resolve(pool: Pool, replay: Replay, leaves: tuple[bytes, ...], now: float) -> list[bytes]:
    """`leaves` are the first ones of the true training. Returns the members that are banned for claiming others."""
    if len(leaves) != replay.leaves:
        raise ValueError(f"a replay of {replay.leaves} leaves gave {len(leaves)}")
    key = replay.work.id, replay.genotype
    banned = []
    for claim in claims(pool, *key):
        wrong = [place for place, leaf in enumerate(leaves) if claim.leaves[place] != leaf]
        if not wrong:
            continue
        reason = f"leaf {wrong[0]} of {replay.genotype.hex()} is not what the pool's own training gives"
        origin = pool.relays.origin(*key, claim.member)
        if origin is not None and wrong[0] < len(origin.checkpoint.leaves):
            uploaded = origin.checkpoint
            ban(pool, Claim(uploaded.address, uploaded.id, uploaded.leaves), reason, now)
            void(pool, *key, f"it went on from another member's state: {reason}", now)
            banned.append(uploaded.address)
        else:
            ban(pool, claim, reason, now)
            banned.append(claim.member)
    for claim in claims(pool, *key):
        if claim.leaves == leaves and pool.audits.get(*key) is not None:
            pool.write(pool.audits.replayed(*key, claim.member))
    return banned


def claims(pool: Pool, work_id: bytes, genotype: bytes) -> list[Claim]:
    """All that is said of a training, by different members: the pool's result first."""
    if work_id not in pool.archives:
        return []
    result, check = pool.archives[work_id][1].get(genotype), pool.audits.get(work_id, genotype)
    first = [Claim(result.finder, result.model, result.leaves)] if result is not None else []
    others = (*check.same, *check.against) if check is not None else ()
    return [*first, *(_claim(signed) for signed in others)]


def ban(pool: Pool, claim: Claim, reason: str, now: float) -> None:
    """A member's claim is false: it forfeits what is unpaid, its results and its place. Its leases go to others."""
    if claim.member in pool.book.refuted:
        return
    points = max(0, pool.book.carried(claim.member))
    entry = RefutedEntry(milliseconds(now), claim.share, claim.member, points, clip(reason))
    changes = [*pool.leases.evict(claim.member), *pool.relays.evict(claim.member)]
    for key in pool.relays.results_from(claim.member):  # who lied once may have uploaded false states, too
        if pool.audits.get(*key) is None:
            changes += pool.audits.put(*key, Check(WAITING))
    pool.append(entry, changes)
    reconsider(pool, now)


def void(pool: Pool, work_id: bytes, genotype: bytes, reason: str, now: float) -> None:
    """A result is false through a state that its finder went on from: the result goes, and its finder stays."""
    number = pool.results.number_of(work_id, genotype)
    if number is None:
        return
    entry = pool.ledger.entry(number)
    if isinstance(entry, ShareEntry):
        member = entry.signed.share.address
        points = pool.book.withdrawable(member, entry.points)
        forget = pool.relays.forget_origin(work_id, genotype, member)
        pool.append(VoidedEntry(milliseconds(now), number, member, points, clip(reason)), forget)
        reconsider(pool, now)


def reconsider(pool: Pool, now: float) -> None:
    """Bring the checks in line with who is banned. What this leaves undone at a kill is done at the next start."""
    for state in (WAITING, PASSED, DISPUTED, REPLAYED):
        for key in pool.audits.checks(state):
            if key[0] in pool.archives:
                _reconsider(pool, *key, now)
    pool.see_best()


def _reconsider(pool: Pool, work_id: bytes, genotype: bytes, now: float) -> None:
    """Where the result is gone, what others handed in takes its place; what contradicted it is credited now."""
    work, archive = pool.archives[work_id]
    check = pool.audits.get(work_id, genotype)
    if check is None:
        return
    same = [signed for signed in check.same if signed.share.address not in pool.book.refuted]
    against = [signed for signed in check.against if signed.share.address not in pool.book.refuted]
    entry: ShareEntry | None = None
    if archive.get(genotype) is None and same:
        entry = ShareEntry(milliseconds(now), same.pop(0), 0)  # its points were credited when it came in
    elif archive.get(genotype) is None and against:
        signed = against.pop(0)
        entry = ShareEntry(milliseconds(now), signed, work.points(signed.share.validation_correct))
    unproven = (check.state == DISPUTED and not against) or (check.state == PASSED and not same)
    changed = Check(WAITING if unproven else check.state, tuple(same), tuple(against))
    if entry is not None:
        pool.append(entry, pool.audits.put(work_id, genotype, changed))
    elif archive.get(genotype) is None:
        pool.write(pool.audits.put(work_id, genotype, None))
    elif changed != check:
        pool.write(pool.audits.put(work_id, genotype, changed))


def _left_over(pool: Pool, work: Work) -> list[Replay]:
    archive = pool.archives[work.id][1]
    waiting = [genotype for genotype in pool.audits.waiting(work.id) if genotype in archive]
    waiting.sort(key=lambda genotype: pool.audits.drawn(work.id, genotype))
    wanted = max(0, pool.settings.replays_per_work - pool.audits.count(work.id, REPLAYED))
    return [Replay(work, genotype, leaf_count(work.spec)) for genotype in waiting[:wanted]]


def _claim(signed: SignedShare) -> Claim:
    return Claim(signed.share.address, signed.share.model, signed.share.leaves)
