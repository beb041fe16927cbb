from __future__ import annotations

import dataclasses

import pytest

from pool.errors import NoLease, PoolFault, ShareRefused
from pool.records import SignedShare
from pool.storage import MemoryStorage
from tests.pool.kit import MAX_MODEL, NOW, SAMPLES, key, make_pool, make_share, make_work, submit

WORK = make_work()
A, B = key(1), key(2)


def leased(**settings):
    pool = make_pool(work=WORK, **settings)
    pool.join(A.public, b"a", NOW)
    return pool, pool.lease(A.address, b"a", NOW)


def refused(pool, signed, model, member=A, now=NOW):
    with pytest.raises(ShareRefused) as caught:
        pool.check_share(member.public, signed, model, now)
    return caught.value.code


def test_points_count_from_the_baseline():
    pool, lease = leased()
    assert WORK.baseline_correct == SAMPLES // 10
    assert submit(pool, lease, lease.genotypes[0], A, 300).points == 300 - SAMPLES // 10
    assert submit(pool, lease, lease.genotypes[1], A, 10).points == 0
    assert pool.member(A.address).earned == 300 - SAMPLES // 10
    assert [found.genotype for found in pool.candidates(5)] == list(lease.genotypes)
    assert pool.candidates(1)[0].finder == A.address


def test_a_lost_acknowledgement_is_answered_again_and_pays_once():
    pool, lease = leased()
    first = submit(pool, lease, lease.genotypes[0], A, 300)
    assert submit(pool, lease, lease.genotypes[0], A, 300) == first
    pool.set_work(make_work(2), NOW)
    signed, model = make_share(WORK, lease, lease.genotypes[0], A, 300)
    assert pool.check_share(A.public, signed, model, NOW) == first
    assert pool.member(A.address).shares == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"epoch": 9}, "stale_work"),
        ({"task": bytes(32)}, "stale_work"),
        ({"network": bytes(32)}, "wrong_network"),
        ({"lease": 999}, "unknown_lease"),
        ({"leaves": (bytes(32),) * 3}, "bad_leaves"),
        ({"leaves": (bytes(32),) * 4}, "model_mismatch"),
        ({"model_bytes": 5}, "bad_model_size"),
        ({"validation_correct": SAMPLES + 1}, "impossible_score"),
        ({"genotype": bytes(15)}, "not_leased"),
        ({"member": B.public}, "wrong_member"),
    ],
)
def test_wrong_shares_are_refused_by_code(changes, code):
    pool, lease = leased()
    signed, model = make_share(WORK, lease, lease.genotypes[0], A, 300, **changes)
    assert refused(pool, signed, model) == code
    assert pool.member(A.address).earned == 0


def test_forged_signature():
    pool, lease = leased()
    signed, model = make_share(WORK, lease, lease.genotypes[0], A, 300)
    assert refused(pool, SignedShare(signed.share, bytes(64)), model) == "bad_signature"
    changed = dataclasses.replace(signed.share, validation_correct=301)
    assert refused(pool, SignedShare(changed, signed.signature), model) == "bad_signature"


def test_another_members_lease_and_duplicates():
    pool, lease = leased()
    pool.join(B.public, b"b", NOW)
    stolen, model = make_share(WORK, lease, lease.genotypes[0], B, 300)
    assert refused(pool, stolen, model, B) == "not_your_lease"
    submit(pool, lease, lease.genotypes[0], A, 300)
    copied, model = make_share(WORK, lease, lease.genotypes[0], B, 300)
    assert refused(pool, copied, model, B) == "duplicate"
    other, model = make_share(WORK, lease, lease.genotypes[0], A, 300, salt=b"other")
    assert refused(pool, other, model) == "duplicate"


def test_a_model_that_is_too_large():
    pool, lease = leased()
    signed, _ = make_share(WORK, lease, lease.genotypes[0], A, 300)
    assert refused(pool, signed, bytes(MAX_MODEL + 1)) == "model_too_large"


@pytest.mark.parametrize(("measured", "code"), [(299, "wrong_score"), (301, "wrong_score"), (-1, "bad_model")])
def test_the_pool_believes_only_what_it_measures(measured, code):
    storage = MemoryStorage()
    pool = make_pool(storage, WORK)
    lease = pool.lease(A.address, b"a", NOW)
    signed, model = make_share(WORK, lease, lease.genotypes[0], A, 300)
    assert pool.check_share(A.public, signed, model, NOW) is None
    with pytest.raises(ShareRefused) as caught:
        pool.accept_share(signed, measured, NOW)
    assert caught.value.code == code
    for same in (pool, make_pool(storage.copy())):
        view = same.member(A.address)
        assert (view.earned, view.rejections[0].code, view.rejections[0].share) == (0, code, signed.share.id.hex())
        assert view.rejections[0].reason
    assert pool.lease(A.address, b"a", NOW).genotypes == lease.genotypes


def test_two_evaluations_of_one_architecture_pay_one():
    pool, lease = leased(silence_seconds=10)
    genotype = lease.genotypes[0]
    mine, model = make_share(WORK, lease, genotype, A, 300)
    assert pool.check_share(A.public, mine, model, NOW) is None
    pool.tick(NOW + 11)
    backup = pool.lease(B.address, b"b", NOW + 11)
    assert genotype in backup.genotypes
    submit(pool, backup, genotype, B, 300, NOW + 11)
    with pytest.raises(ShareRefused) as caught:
        pool.accept_share(mine, 300, NOW + 11)
    assert caught.value.code == "duplicate"
    assert (pool.member(A.address).earned, pool.member(B.address).earned) == (0, 260)


def test_a_refuted_member_loses_unpaid_points_results_and_place():
    storage = MemoryStorage()
    pool = make_pool(storage, WORK)
    lease, other = pool.lease(A.address, b"a", NOW), pool.lease(B.address, b"b", NOW)
    submit(pool, lease, lease.genotypes[0], A, 399)
    submit(pool, lease, lease.genotypes[1], A, 390)
    submit(pool, other, other.genotypes[0], B, 300)
    liar = pool.candidates(1)[0]
    pool.refute(liar.genotype, liar.leaves, "segment 1 differs", NOW)
    for same in (pool, make_pool(storage.copy())):
        assert [found.finder for found in same.candidates(9)] == [B.address]
        assert (same.member(A.address).carried, same.member(A.address).banned) == (0, True)
        assert [payout.address for payout in same.payouts(9)] == [B.address]
    with pytest.raises(NoLease) as caught:
        pool.lease(A.address, b"a", NOW)
    assert caught.value.code == "banned"
    again, model = make_share(WORK, lease, lease.genotypes[0], A, 300)
    assert refused(pool, again, model) == "banned"


def test_rejections_are_bounded():
    storage = MemoryStorage()
    pool = make_pool(storage, WORK)
    lease = pool.lease(A.address, b"a", NOW)
    for i in range(100):
        signed, model = make_share(WORK, lease, lease.genotypes[0], A, 300, lease=1000 + i)
        refused(pool, signed, model, now=NOW + i)
    for same in (pool, make_pool(storage.copy())):
        kept = same.member(A.address).rejections
        assert [rejection.at for rejection in kept] == [NOW + i for i in range(99, 67, -1)]


def test_work_comes_back_equal_whatever_its_closing_time():
    for closes in (NOW + 0.1, NOW + 0.123, NOW + 7 / 3, 1_731_000_000.999):
        work = make_work(closes=round(closes * 1000) / 1000)
        storage = MemoryStorage()
        pool = make_pool(storage, work)
        assert pool.work == work
        pool.set_work(work, NOW)
        assert make_pool(storage.copy()).work == work
        assert len(list(storage.iterate(b"L"))) == 1


def test_a_damaged_ledger_is_not_taken_for_a_good_one():
    storage = MemoryStorage()
    pool = make_pool(storage, WORK)
    lease = pool.lease(A.address, b"a", NOW)
    submit(pool, lease, lease.genotypes[0], A, 300)
    entries = list(storage.iterate(b"L"))
    for key_, value in ((entries[1][0], entries[1][1][:-1]), (entries[0][0], None)):
        damaged = storage.copy()
        damaged.write([(key_, value)])
        with pytest.raises(PoolFault):
            make_pool(damaged)
