"""Trainings that begin with one member and end with another: what is kept, who gets it, and who answers for what."""

from __future__ import annotations

import dataclasses
import random

import pytest

from chain.hashing import digest
from pool import resumption, snapshot
from pool.audit import PASSED, WAITING, AuditPolicy
from pool.disputes import Replay
from pool.errors import ShareRefused, StateRefused
from pool.records import Checkpoint, RefutedEntry, ResumedEntry, Terms, VoidedEntry, sign_checkpoint
from pool.storage import MemoryStorage
from tests.pool.kit import (
    NETWORK,
    NO_AUDITS,
    NOW,
    account_of,
    inspection_of,
    key,
    leaves_of,
    make_pool,
    make_share,
    make_work,
    submit,
)

SEGMENTS = 4
WORK = make_work(segments=SEGMENTS)
A, B, C = key(1), key(2), key(3)
FALSE = b"forged"
BYTES = 1000


def checkpoint(lease, genotype, member, segments, salt=b"", **changes):
    """A signed checkpoint of a training that gave `salt`'s leaves."""
    leaves = leaves_of(WORK.spec, genotype, salt)[: segments + 1]
    values = Checkpoint(NETWORK, 1, WORK.task, lease.id, genotype, leaves, BYTES, member.public)
    return sign_checkpoint(dataclasses.replace(values, **changes), member)


def opened(storage, **settings):
    values = {"lease_size": 1, "silence_seconds": 10.0, "audits": NO_AUDITS, "lease_seconds": 1e6}
    return make_pool(storage, WORK, **(values | settings))


def begun(salt=b"", segments=2, **settings):
    """A pool where A uploaded a checkpoint and fell silent: pool, storage, A's lease, architecture."""
    storage = MemoryStorage()
    pool = opened(storage, **settings)
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    signed = checkpoint(lease, genotype, A, segments, salt)
    resumption.check(pool, A.public, signed)
    resumption.keep(pool, A.public, signed, NOW)
    pool.join(B.public, b"b", NOW + 11)
    pool.tick(NOW + 11)
    return pool, storage, lease, genotype


def resumed(pool, genotype, member=B):
    """Another member gets the lease, and the state."""
    lease = pool.lease(member.address, b"b", NOW + 11)
    assert lease.genotypes == (genotype,)
    (offer,) = resumption.offers(pool, member.address, lease.id, NOW + 11)
    assert resumption.hand(pool, member.address, lease.id, genotype, NOW + 11) == offer.signed
    assert not offer.own
    return lease


def in_order(pool, *members, limit=8):
    """Nobody finds anything wrong with the ledger; answers the members' accounts."""
    inspection, accounts = inspection_of(pool, limit), [account_of(pool, member, limit) for member in members]
    assert inspection.problems == inspection.overdue() == []
    for account in accounts:
        assert account.problems == account.overdue() == []
        assert account.earned == pool.book.earned[account.member]
    return accounts


def both(pool, storage, **settings):
    """The pool, and what a restart makes of it."""
    return pool, opened(storage.copy(), **settings)


def test_a_silent_members_training_is_finished_by_another_who_earns_it():
    pool, storage, _, genotype = begun()
    lease = resumed(pool, genotype)
    for same in both(pool, storage):
        assert submit(same, lease, genotype, B, 300).points == 260
        entry = same.ledger.entry(len(same.ledger) - 1)
        assert isinstance(entry, ResumedEntry)
        assert entry.checkpoint.checkpoint.address == A.address
        assert same.audits.get(WORK.id, genotype).state == WAITING  # A is new: somebody must train it whole
        assert same.relays.states() == set()
        (account,) = in_order(same, B)
        assert (account.earned, same.book.earned[A.address]) == (260, 0)
        with pytest.raises(ShareRefused, match="already"):
            submit(same, lease, genotype, A, 300)


def test_a_state_is_not_offered_while_its_member_may_finish():
    pool = opened(MemoryStorage(), backup_sigmas=1.5)
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    resumption.keep(pool, A.public, checkpoint(lease, genotype, A, 2), NOW)
    held = pool.leases.held[lease.id]
    held.backed = True
    pool.leases._offer_all([held])
    backup = pool.lease(B.address, b"b", NOW)
    assert backup.genotypes == (genotype,)
    assert resumption.offers(pool, B.address, backup.id, NOW + 4.9) == []
    with pytest.raises(StateRefused, match="no state"):
        resumption.hand(pool, B.address, backup.id, genotype, NOW + 4.9)
    [offer] = resumption.offers(pool, B.address, backup.id, NOW + 5)  # A has not advanced for half the silence
    assert offer.signed.checkpoint.address == A.address
    pool.tick(NOW + 11)
    again = pool.lease(C.address, b"c", NOW + 11)
    assert again.genotypes == (genotype,)
    assert [offer.own for offer in resumption.offers(pool, C.address, again.id, NOW + 11)] == [False]


def test_a_machine_that_restarts_goes_on_from_its_own_state_and_answers_for_all_of_it():
    pool = opened(MemoryStorage())
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    resumption.keep(pool, A.public, checkpoint(lease, genotype, A, 1, FALSE), NOW)
    again = pool.lease(A.address, b"a", NOW + 1)
    assert again.id == lease.id
    assert [offer.own for offer in resumption.offers(pool, A.address, again.id, NOW + 11)] == [True]
    resumption.hand(pool, A.address, again.id, genotype, NOW + 11)
    resumption.keep(pool, A.public, checkpoint(lease, genotype, A, 3, FALSE), NOW + 2)
    submit(pool, again, genotype, A, 300, salt=FALSE)
    assert not isinstance(pool.ledger.entry(len(pool.ledger) - 1), ResumedEntry)
    pool.resolve(replay_of(pool, genotype, 3), leaves_of(WORK.spec, genotype)[:3], NOW)
    assert pool.book.refuted.keys() == {A.address}


def replay_of(pool, genotype, leaves):
    return Replay(pool.archives[WORK.id][0], genotype, leaves)


@pytest.mark.parametrize("terms", [Terms(), Terms("pplns", 10_000)], ids=["proportional", "pplns"])
def test_who_uploads_a_false_state_is_banned_and_who_went_on_from_it_only_loses_the_share(terms):
    pool, storage, _, genotype = begun(FALSE, terms=terms)
    lease = resumed(pool, genotype)
    other = pool.lease(B.address, b"more", NOW + 11)
    submit(pool, other, other.genotypes[0], B, 200)
    submit(pool, lease, genotype, B, 300, salt=FALSE)
    double = pool.lease(C.address, b"c", NOW + 12)
    assert double.genotypes == (genotype,)
    assert resumption.offers(pool, C.address, double.id, NOW + 11) == []
    submit(pool, double, genotype, C, 290, NOW + 12)
    for same in both(pool, storage, terms=terms):
        (replay,) = same.replays(NOW + 12)
        assert replay.leaves == 1
        assert same.resolve(replay, leaves_of(WORK.spec, genotype)[:1], NOW + 13) == [A.address]
        assert same.book.refuted.keys() == {A.address}
        assert same.member(B.address).banned is False
        assert same.archive.get(genotype).finder == C.address
        kinds = [type(entry) for _, entry in same.ledger.replay()]
        assert kinds.index(RefutedEntry) < kinds.index(VoidedEntry)
        account, _, _ = in_order(same, B, C, A)
        states = [(state, entry.signed.share.genotype == genotype) for _, entry, state, _ in account.states()]
        assert sorted(states) == [("accepted", False), ("voided", True)]
        assert "went on from another member's state: leaf 0 of" in next(r for _, _, s, r in account.states() if r)
        owed = same.book.owed()
        assert (owed[B.address], owed[C.address]) == (160, 250)
        assert not same.replays(NOW + 13)
        same.save_snapshot()
        again = opened(same._storage._below.copy(), terms=terms)
        assert snapshot.state_of(again.book) == snapshot.state_of(same.book)
        assert list(again.archive) == list(same.archive)


def test_who_goes_on_from_a_true_state_and_lies_then_is_banned_alone():
    pool, storage, _, genotype = begun(segments=2)
    lease = resumed(pool, genotype)
    signed, model = make_share(WORK, lease, genotype, B, 300, FALSE)
    mixed = (*leaves_of(WORK.spec, genotype)[:3], *signed.share.leaves[3:])
    signed, model = make_share(WORK, lease, genotype, B, 300, FALSE, leaves=mixed)
    assert pool.check_share(B.public, signed, model, NOW + 11) is None
    pool.accept_share(signed, 300, NOW + 11)
    for same in both(pool, storage):
        assert same.resolve(replay_of(same, genotype, 4), leaves_of(WORK.spec, genotype)[:4], NOW) == [B.address]
        assert same.book.refuted.keys() == {B.address}
        assert not same.book.voided
        in_order(same, A)


def test_who_was_handed_a_state_and_claims_other_leaves_answers_for_them():
    pool, _, _, genotype = begun(segments=2)
    lease = resumed(pool, genotype)
    submit(pool, lease, genotype, B, 300, salt=FALSE)
    assert not isinstance(pool.ledger.entry(len(pool.ledger) - 1), ResumedEntry)
    assert pool.audits.get(WORK.id, genotype).state == WAITING  # it contradicts what A signed
    assert pool.resolve(replay_of(pool, genotype, 2), leaves_of(WORK.spec, genotype)[:2], NOW) == [B.address]


def test_who_was_handed_nothing_cannot_blame_another():
    pool, _, _, genotype = begun(FALSE)
    lease = pool.lease(B.address, b"b", NOW + 11)
    submit(pool, lease, genotype, B, 300, salt=FALSE)
    assert pool.resolve(replay_of(pool, genotype, 2), leaves_of(WORK.spec, genotype)[:2], NOW) == [B.address]


def test_results_from_a_trusted_member_are_checked_as_usual_until_it_is_refuted():
    pool, _, first, genotype = begun(audits=AuditPolicy(new=0, trusted=0, best=0, probation=0))
    lease = resumed(pool, genotype)
    submit(pool, lease, genotype, B, 300)
    assert pool.audits.get(WORK.id, genotype) is None
    more = pool.lease(A.address, b"a", NOW + 12)
    submit(pool, more, more.genotypes[0], A, 300, salt=FALSE)
    pool.resolve(replay_of(pool, more.genotypes[0], 2), leaves_of(WORK.spec, more.genotypes[0])[:2], NOW)
    assert pool.book.refuted.keys() == {A.address}
    assert pool.audits.get(WORK.id, genotype).state == WAITING
    submit(pool, pool.lease(C.address, b"c", NOW + 13), genotype, C, 300)
    assert pool.audits.get(WORK.id, genotype).state == PASSED
    assert first.id != lease.id


@pytest.mark.parametrize(("changes", "signer", "sender", "code"), [
    ({}, A, A, None), ({}, A, B, "wrong_member"), ({}, B, A, "bad_signature"),
    ({"network": bytes(32)}, A, A, "wrong_member"), ({"epoch": 2}, A, A, "stale_work"),
    ({"task": bytes(32)}, A, A, "stale_work"), ({"lease": 77}, A, A, "not_leased"),
    ({"genotype": b"\x01" * 15}, A, A, "not_leased"), ({"state_bytes": 1 << 25}, A, A, "too_large"),
    ({"state_bytes": 2**32 - 1}, A, A, "too_large"),
    ({"leaves": tuple(bytes([i]) * 32 for i in range(SEGMENTS + 2))}, A, A, "bad_leaves"),
])  # fmt: skip
def test_what_may_be_uploaded(changes, signer, sender, code):
    pool = opened(MemoryStorage())
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    good = dataclasses.replace(checkpoint(lease, genotype, A, 2).checkpoint, **changes)
    signed = sign_checkpoint(good, signer)
    if code is None:
        resumption.keep(pool, sender.public, signed, NOW)
        assert pool.relays.states() == {signed.checkpoint.state}
        return
    for refused in (lambda: resumption.check(pool, sender.public, signed),
                    lambda: resumption.keep(pool, sender.public, signed, NOW)):  # fmt: skip
        with pytest.raises(StateRefused) as error:
            refused()
        assert error.value.code == code
    assert pool.relays.states() == set()


def test_later_states_replace_earlier_ones_and_must_continue_them():
    pool = opened(MemoryStorage())
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    for segments, salt, code in ((2, b"", None), (2, b"", "not_newer"), (1, b"", "not_newer"),
                                 (3, FALSE, "contradiction"), (3, b"", None), (SEGMENTS, b"", None)):  # fmt: skip
        signed = checkpoint(lease, genotype, A, segments, salt)
        if code is None:
            resumption.keep(pool, A.public, signed, NOW)
            assert pool.relays.states() == {signed.checkpoint.state}
        else:
            with pytest.raises(StateRefused) as error:
                resumption.check(pool, A.public, signed)
            assert error.value.code == code


def test_who_went_on_uploads_nothing_and_a_lost_lease_neither():
    pool, _, lost, genotype = begun()
    with pytest.raises(StateRefused, match="does not hold"):
        resumption.check(pool, A.public, checkpoint(lost, genotype, A, 3))
    lease = resumed(pool, genotype)
    with pytest.raises(StateRefused, match="not handed on"):
        resumption.check(pool, B.public, checkpoint(lease, genotype, B, 3))
    with pytest.raises(StateRefused, match="does not hold"):
        resumption.hand(pool, C.address, lease.id, genotype, NOW + 11)


def test_a_double_lease_takes_states_as_any_other_but_keeps_them_to_itself():
    pool = opened(MemoryStorage(), audits=AuditPolicy(block=1, new=1, trusted=1))
    lease = pool.lease(A.address, b"a", NOW)
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    double = pool.lease(B.address, b"b", NOW)
    assert double.genotypes == (genotype,)
    resumption.keep(pool, B.public, checkpoint(double, genotype, B, 2), NOW)
    assert [offer.own for offer in resumption.offers(pool, B.address, double.id, NOW + 11)] == [True]
    pool.join(C.public, b"c", NOW + 11)
    pool.tick(NOW + 11)
    third = pool.lease(C.address, b"c", NOW + 11)
    assert third.genotypes == (genotype,)
    assert resumption.offers(pool, C.address, third.id, NOW + 11) == []


def test_there_is_room_for_so_many_bytes_and_whoever_fills_it_loses_the_oldest():
    print("seed 4")
    rng = random.Random(4)
    storage = MemoryStorage()
    pool = opened(storage, states_bytes=10 * BYTES)
    leases = []
    for number in range(30):
        member = A if number < 20 else B
        lease = pool.lease(member.address, bytes([number]), NOW)
        leases.append((member, lease))
        signed = checkpoint(lease, lease.genotypes[0], member, rng.randint(1, SEGMENTS))
        resumption.keep(pool, member.public, signed, NOW + number)
        kept = [number for number, (_, held) in enumerate(leases) if pool.relays.kept(held.genotypes[0])]
        if number < 20:
            assert kept == list(range(max(0, number - 9), number + 1))
        assert len(kept) == min(10, number + 1)
        assert opened(storage.copy(), states_bytes=10 * BYTES).relays.states() == pool.relays.states()
    assert kept == [15, 16, 17, 18, 19, 25, 26, 27, 28, 29]


def test_states_end_with_the_work_and_with_the_place_of_their_member():
    for end in (lambda pool: pool.set_work(make_work(2, segments=SEGMENTS), NOW), ban_a):
        pool, storage, _, _ = begun()
        assert pool.relays.states()
        end(pool)
        assert not pool.relays.states()
        assert not make_pool(storage.copy()).relays.states()


def ban_a(pool):
    lease = pool.lease(A.address, b"a2", NOW + 11)
    more = next(genotype for genotype in lease.genotypes)
    submit(pool, lease, more, A, 300, salt=digest("x", b""))
    pool.refute(more, pool.archive.get(more).leaves, "why", NOW)


def test_steps_that_others_did_say_nothing_about_the_speed_of_who_goes_on():
    pool, _, _, genotype = begun(segments=3)
    lease = resumed(pool, genotype)
    held, steps = pool.leases.held[lease.id], WORK.spec.steps
    start = 3 * steps // SEGMENTS
    assert pool.progress(B.address, b"b", lease.id, start + 1, NOW + 12)
    assert held.step == start
    assert held.rate.mean() in (None, 0)
    assert pool.progress(B.address, b"b", lease.id, start + 3, NOW + 14)
    assert held.rate.mean() == pytest.approx(3 * pool.leases.cost(genotype) / 2)
