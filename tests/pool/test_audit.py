from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.hashing import digest
from pool.audit import DISPUTED, PASSED, REPLAYED, WAITING, AuditPolicy, Audits
from pool.disputes import Replay
from pool.errors import ShareRefused
from pool.inspection import Inspection
from pool.records import ContestedEntry, ShareEntry, sign_share
from pool.storage import MemoryStorage
from tests.pool.kit import (
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

WORK = make_work()
A, B, C = key(1), key(2), key(3)
ALWAYS = AuditPolicy(block=1, new=1, trusted=1)
TRUE, FALSE = b"", b"forged"


def audited(**settings):
    """A pool that doubles every share, with one result of A; returns it, its storage and the architecture."""
    storage = MemoryStorage()
    pool = make_pool(storage, WORK, audits=ALWAYS, lease_size=1, **settings)
    lease = pool.lease(A.address, b"a", NOW)
    return pool, storage, lease


def truth(genotype, leaves=4):
    return leaves_of(WORK.spec, genotype)[:leaves]


def own(pool, member):
    """What a member makes of its entries."""
    account = account_of(pool, member)
    assert account.problems == []
    return account


def inspected(pool):
    """What whoever replays the whole ledger finds wrong."""
    inspection = inspection_of(pool)
    return [*inspection.problems, *inspection.overdue()]


def same_after_restart(pool, storage, **settings):
    again = make_pool(storage.copy(), audits=ALWAYS, lease_size=1, **settings)
    for one in (pool, again):
        one.set_work(WORK, NOW)
    return pool, again


def test_a_second_member_gets_it_and_is_paid_the_same_and_the_first_never_does():
    pool, storage, lease = audited()
    (genotype,) = lease.genotypes
    first = submit(pool, lease, genotype, A, 300)
    assert pool.lease(A.address, b"a", NOW).genotypes != (genotype,)
    assert pool.lease(A.address, b"other", NOW).genotypes != (genotype,)
    second = pool.lease(B.address, b"b", NOW)
    assert second.genotypes == (genotype,)
    assert pool.lease(C.address, b"c", NOW).genotypes != (genotype,)
    assert submit(pool, second, genotype, B, 300).points == first.points
    for same in same_after_restart(pool, storage):
        assert submit(same, second, genotype, B, 300).points == first.points
        assert same.audits.get(WORK.id, genotype).state == PASSED
        assert [same.member(member.address).earned for member in (A, B)] == [260, 260]
        assert [same.audits.passed(member.address) for member in (A, B)] == [1, 1]
        assert same.candidates(1)[0].finder == A.address
        assert not same.replays(NOW)


@pytest.mark.parametrize("size", [1, 4])
def test_a_double_lease_looks_like_any_other(size):
    pool = make_pool(work=WORK, audits=ALWAYS, lease_size=size)
    lease = pool.lease(A.address, b"a", NOW)
    for genotype in lease.genotypes:
        submit(pool, lease, genotype, A, 300)
    places = set()
    for number in range(2, 40):
        double = pool.lease(key(number).address, b"w", NOW)
        assert len(double.genotypes) == size
        assert double.prefix in pool.archive.domain.prefixes
        assert double.deadline - double.granted == lease.deadline - lease.granted
        assert all(genotype.startswith(double.prefix) for genotype in double.genotypes)
        known = [place for place, genotype in enumerate(double.genotypes) if genotype in lease.genotypes]
        assert len(known) <= 1
        places.update(known)
        for genotype in double.genotypes:
            submit(pool, double, genotype, key(number), 300)
    assert (len(places) > 1) == (size > 1)
    assert not {genotype for genotype in lease.genotypes if pool.audits.get(WORK.id, genotype).state != PASSED}


@pytest.mark.parametrize(("first", "second", "liars"), [
    (FALSE, TRUE, [A]), (TRUE, FALSE, [B]), (FALSE, b"other", [A, B]),
])  # fmt: skip
def test_where_two_results_differ_a_replay_tells_who_lied(first, second, liars):
    pool, storage, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300, salt=first)
    double = pool.lease(B.address, b"b", NOW)
    more = pool.lease(A.address, b"a", NOW)
    assert submit(pool, double, genotype, B, 300, salt=second).points == 260
    assert pool.candidates(5) == []
    contested = pool.ledger.entry(len(pool.ledger) - 1)
    assert isinstance(contested, ContestedEntry)
    assert (contested.signed.share.address, contested.points) == (B.address, 260)
    assert (pool.member(B.address).earned, pool.member(B.address).contested) == (0, 260)
    assert [state for _, _, state, _ in own(pool, B).states()] == ["contested"]
    pool.save_snapshot()
    for same in same_after_restart(pool, storage):
        assert submit(same, double, genotype, B, 300, salt=second).points == 260  # the acknowledgement got lost
        (replay,) = same.replays(NOW)
        assert (replay.work, replay.genotype, replay.leaves) == (WORK, genotype, 1)
        assert same.resolve(replay, truth(genotype, 1), NOW) == [liar.address for liar in liars]
        assert same.book.refuted.keys() == {liar.address for liar in liars}
        honest = next((member for member in (A, B) if member not in liars), None)
        for member in (A, B):
            assert same.member(member.address).carried == (260 if member is honest else 0)
            assert same.member(member.address).contested == 0
            account = own(same, member)
            [(_, entry, state, reason)] = account.states()
            assert state == ("accepted" if member is honest else "refuted")
            assert account.receipt(entry.signed.share.id) == 260
            assert account.earned == account.carried == (260 if member is honest else 0)
            assert "leaf 0 of" in reason or member is honest
        assert inspected(same) == []
        assert [found.finder for found in same.candidates(5)] == ([honest.address] if honest else [])
        assert not same.replays(NOW)
        assert same.resolve(replay, truth(genotype, 1), NOW) == []
        if A in liars:
            assert tuple(same.leases.queue[0].genotypes) == more.genotypes
            with pytest.raises(ShareRefused, match="refuted"):
                submit(same, more, more.genotypes[0], A, 300)
        if honest:  # only the leaf where they part was replayed: what remains wants a second result again
            assert same.audits.get(WORK.id, genotype).state == WAITING
            assert same.lease(C.address, b"c", NOW + 1).genotypes in ((genotype,), more.genotypes)
        else:
            assert same.audits.get(WORK.id, genotype) is None


def test_a_result_confirmed_by_a_second_member_outlives_the_ban_of_the_first():
    pool, storage, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    double = pool.lease(B.address, b"b", NOW)
    submit(pool, double, genotype, B, 300)
    pool.refute(genotype, truth(genotype), "for another reason", NOW)
    for same in same_after_restart(pool, storage):
        assert [found.finder for found in same.candidates(5)] == [B.address]
        assert same.member(B.address).earned == 260
        assert submit(same, double, genotype, B, 300).points == 260
        assert same.member(B.address).earned == 260
        assert inspected(same) == []
        assert own(same, B).earned == 260


def test_a_contested_share_of_a_member_that_lied_elsewhere_is_never_credited():
    pool, _, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    submit(pool, pool.lease(B.address, b"b", NOW), genotype, B, 300, salt=FALSE)
    more = pool.lease(B.address, b"b", NOW)
    submit(pool, more, more.genotypes[0], B, 300, salt=FALSE)
    pool.refute(more.genotypes[0], make_share(WORK, more, more.genotypes[0], B, 300, FALSE)[0].share.leaves, "no", NOW)
    states = own(pool, B).states()
    assert [(state, reason) for _, _, state, reason in states] == [
        ("refuted", "no"), ("refuted", "another share of this member was refuted"),
    ]  # fmt: skip
    assert (pool.member(B.address).contested, pool.member(B.address).earned) == (0, 0)
    assert not pool.replays(NOW)
    assert inspected(pool) == []


def test_a_pool_that_never_tells_who_is_right_is_found_out_by_the_member_and_by_anyone():
    pool, _, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    submit(pool, pool.lease(B.address, b"b", NOW), genotype, B, 300, salt=FALSE)
    for epoch in range(2, 9):
        pool.set_work(make_work(epoch), NOW)
        assert own(pool, B).overdue() == inspected(pool) == []
        assert pool.replays(NOW)
    pool.set_work(make_work(9), NOW)
    assert not pool.replays(NOW)
    assert "never told who is right" in own(pool, B).overdue()[0]
    assert "never told who is right" in inspected(pool)[0]
    assert own(pool, A).overdue() == []


def as_other(entry, kind):
    """What a cheating pool writes instead of an entry."""
    if kind == "credited" and isinstance(entry, ContestedEntry):
        return ShareEntry(entry.at, entry.signed, entry.points)
    if kind == "set aside" and isinstance(entry, ShareEntry):
        return ContestedEntry(entry.at, entry.signed, entry.points)
    if kind == "short" and isinstance(entry, ContestedEntry):
        return dataclasses.replace(entry, points=entry.points - 1)
    if kind == "forged" and isinstance(entry, ContestedEntry):
        return dataclasses.replace(entry, signed=dataclasses.replace(entry.signed, signature=bytes(64)))
    return entry


@pytest.mark.parametrize(("kind", "found"), [
    ("honest", None), ("credited", "contradicts another one"), ("set aside", "contradicts no other"),
    ("short", "260 points that would earn 259"), ("forged", "did not sign"), ("twice", "has already"),
])  # fmt: skip
def test_no_pool_can_set_shares_aside_or_credit_contradictions(kind, found):
    pool, _, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    submit(pool, pool.lease(B.address, b"b", NOW), genotype, B, 300, salt=FALSE)
    inspection = Inspection(8)
    for _, entry in pool.ledger.replay():
        inspection.take(as_other(entry, kind))
        if kind == "twice" and isinstance(entry, ContestedEntry):
            inspection.take(entry)
    assert bool(inspection.problems) == (found is not None)
    assert all(found in problem for problem in inspection.problems)


def test_a_kill_between_the_ban_and_what_follows_loses_nothing():
    pool, storage, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300, salt=FALSE)
    submit(pool, pool.lease(B.address, b"b", NOW), genotype, B, 300)
    (replay,) = pool.replays(NOW)
    killed_at = []
    whole = pool.append

    def append(entry, more=None):
        whole(entry, more)
        killed_at.append(storage.copy())

    pool.append = append
    pool.resolve(replay, truth(genotype, 1), NOW)
    assert len(killed_at) == 2
    for left in killed_at:
        again = make_pool(left, audits=ALWAYS, lease_size=1)
        again.tick(NOW)
        assert [found.finder for found in again.candidates(5)] == [B.address]
        assert (again.member(B.address).earned, again.member(A.address).banned) == (260, True)
        assert not again.replays(NOW)


def test_checks_that_nobody_took_are_replayed_by_the_pool_a_few_after_each_search():
    pool, storage, lease = audited(replays_per_work=2)
    results = []
    for _ in range(5):
        (genotype,) = lease.genotypes
        submit(pool, lease, genotype, A, 300, salt=TRUE)
        results.append(genotype)
        lease = pool.lease(A.address, b"a", NOW)
    assert not pool.replays(NOW)
    for _ in range(2):
        due = pool.replays(WORK.closes)
        assert {replay.leaves for replay in due} == {4}
        assert pool.resolve(due[0], truth(due[0].genotype), NOW) == []
        again = make_pool(storage.copy(), audits=ALWAYS, replays_per_work=2)
        assert again.replays(WORK.closes) == pool.replays(WORK.closes)
    assert not pool.replays(WORK.closes)
    assert pool.audits.count(WORK.id, REPLAYED) == 2
    assert pool.audits.passed(A.address) == 2
    with pytest.raises(ValueError, match="gave 1"):
        pool.resolve(Replay(WORK, results[0], 4), truth(results[0], 1), NOW)
    pool.set_work(make_work(2), NOW)
    assert not pool.replays(WORK.closes)


def test_a_double_lease_that_is_lost_or_given_up_goes_to_someone_else_but_not_to_the_first():
    pool, _, lease = audited(silence_seconds=10)
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    double = pool.lease(B.address, b"b", NOW)
    pool.tick(NOW + 10)
    assert not pool.leases.queue
    assert pool.lease(A.address, b"a", NOW + 10).genotypes != (genotype,)
    again = pool.lease(C.address, b"c", NOW + 10)
    assert again.genotypes == (genotype,)
    pool.release(C.address, again.id, genotype)
    assert not pool.leases.queue
    assert submit(pool, double, genotype, B, 300, NOW + 11).points == 260
    assert pool.audits.get(WORK.id, genotype).state == PASSED


def test_only_the_holder_of_a_double_lease_may_contradict():
    pool, _, lease = audited()
    (genotype,) = lease.genotypes
    submit(pool, lease, genotype, A, 300)
    with pytest.raises(ShareRefused, match="already"):
        submit(pool, lease, genotype, A, 300, salt=FALSE)
    other = pool.lease(C.address, b"c", NOW, frozenset([genotype]))
    for forged in (other, lease):
        signed, model = make_share(WORK, forged, genotype, C, 300, FALSE)
        with pytest.raises(ShareRefused, match="already"):
            pool.check_share(C.public, sign_share(signed.share, C), model, NOW)
    assert pool.audits.get(WORK.id, genotype).state == WAITING
    assert not list(pool.audits.checks(DISPUTED))


@given(st.integers(0, 2**32), st.integers(1, 20), st.data())
def test_of_every_block_of_shares_so_many_are_checked(seed, block, data):
    new = data.draw(st.integers(0, block))
    policy = AuditPolicy(block, new, data.draw(st.integers(0, new)), probation=10**9, best=0)
    rng = random.Random(seed)
    storage = MemoryStorage()
    audits = Audits(storage, policy, rng.randbytes(32))
    for number in range(5):
        chosen = 0
        for share in range(block):
            genotype = bytes([number, share])
            storage.write(audits.enter(WORK.id, genotype, A.address, 300, digest("share", genotype)))
            chosen += audits.get(WORK.id, genotype) is not None
            if rng.random() < 0.3:
                audits = Audits(storage.copy(), policy, bytes(32))
                storage = audits._storage
        assert chosen == new


def test_trusted_members_are_checked_less_and_the_best_always():
    storage = MemoryStorage()
    audits = Audits(storage, AuditPolicy(block=8, new=8, trusted=1, probation=8, best=2), bytes(32))
    for number in range(8):
        audits.enter(WORK.id, bytes([number]), A.address, 300 + number, bytes([number]))
        audits.replayed(WORK.id, bytes([number]), A.address)
    rest = [bytes([number]) for number in range(8, 88)]
    for genotype in rest:
        audits.enter(WORK.id, genotype, A.address, 200, genotype)
    assert sum(audits.get(WORK.id, genotype) is not None for genotype in rest) == 10
    for number in range(200, 230):
        audits.enter(WORK.id, bytes([number]), A.address, 300 + number, bytes([number]))
        assert audits.get(WORK.id, bytes([number])) is not None


def test_an_impossible_policy():
    with pytest.raises(ValueError, match="trusted <= new"):
        AuditPolicy(block=4, new=1, trusted=2)
