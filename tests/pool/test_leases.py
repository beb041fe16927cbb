from __future__ import annotations

import random

import pytest

from pool.errors import NoLease, ShareRefused
from pool.search import Archive, Evolution, RandomSearch
from pool.storage import MemoryStorage
from pool.subspace import Domain
from pool.work import Candidate
from tests.pool.kit import NOW, key, make_pool, make_share, make_work, submit

WORK = make_work()
A, B, C = key(1), key(2), key(3)


def test_leases_are_disjoint_canonical_admitted_and_in_one_subspace():
    pool = make_pool(work=WORK, lease_size=4)
    domain, seen = pool.archive.domain, set()
    for number in range(30):
        lease = pool.lease(key(number).address, b"w", NOW)
        assert lease.genotypes
        for genotype in lease.genotypes:
            assert genotype.startswith(lease.prefix)
            assert lease.prefix in domain.prefixes
            assert domain.space.canonical(genotype) == genotype
            assert domain.cost(genotype) is not None
            assert genotype not in seen
            seen.add(genotype)
    assert len({domain.prefix(genotype) for genotype in seen}) == len(domain.prefixes)


def test_asking_again_gives_the_same_lease_and_workers_of_one_member_do_not_collide():
    pool = make_pool(work=WORK)
    first = pool.lease(A.address, b"one", NOW)
    assert pool.lease(A.address, b"one", NOW + 1) == first
    second = pool.lease(A.address, b"two", NOW + 1)
    assert not set(first.genotypes) & set(second.genotypes)
    submit(pool, first, first.genotypes[0], A, 100)
    assert pool.lease(A.address, b"one", NOW + 2).genotypes == first.genotypes[1:]
    assert pool.lease(A.address, b"one", NOW + 2, frozenset(first.genotypes)).id not in (first.id, second.id)


def test_a_worker_cannot_hoard_leases():
    pool = make_pool(work=WORK, leases_per_worker=2)
    trained = frozenset()
    for _ in range(2):
        trained |= set(pool.lease(A.address, b"a", NOW, trained).genotypes)
    with pytest.raises(NoLease) as caught:
        pool.lease(A.address, b"a", NOW, trained)
    assert caught.value.code == "too_many_leases"
    few = make_pool(work=WORK, leases_per_member=3)
    for worker in range(3):
        few.lease(A.address, bytes([worker]), NOW)
    with pytest.raises(NoLease, match="holds 3 leases"):
        few.lease(A.address, b"w", NOW)
    assert few.lease(B.address, b"w", NOW)


def test_a_silent_holders_lease_goes_to_another_member_and_a_late_first_result_counts():
    pool = make_pool(work=WORK, silence_seconds=10)
    lease = pool.lease(A.address, b"a", NOW)
    pool.join(B.public, b"b", NOW)
    assert pool.tick(NOW + 9) == []
    assert [expired.id for expired in pool.tick(NOW + 10)] == [lease.id]
    pool.join(B.public, b"b", NOW + 10)
    assert not set(pool.lease(A.address, b"a", NOW + 10).genotypes) & set(lease.genotypes)
    backup = pool.lease(B.address, b"b", NOW + 10)
    assert backup.genotypes == lease.genotypes
    assert not pool.progress(A.address, b"a", lease.id, 5, NOW + 11)
    assert submit(pool, lease, lease.genotypes[0], A, 100, NOW + 12).points == 60
    assert submit(pool, backup, lease.genotypes[1], B, 100, NOW + 12).points == 60
    assert pool.summary().leases == 1


def test_progress_keeps_a_lease_only_while_it_advances_and_not_past_the_deadline():
    pool = make_pool(work=WORK, silence_seconds=10, lease_seconds=35)
    lease = pool.lease(A.address, b"a", NOW)
    for i in range(1, 4):
        assert pool.progress(A.address, b"a", lease.id, i, NOW + 8 * i)
        assert pool.tick(NOW + 8 * i) == []
    pool.progress(A.address, b"a", lease.id, 3, NOW + 33)
    assert [expired.id for expired in pool.tick(NOW + 34)] == [lease.id]
    other = pool.lease(B.address, b"b", NOW + 40)
    for i in range(1, 7):
        pool.progress(B.address, b"b", other.id, i, NOW + 40 + 6 * i)
        expired = pool.tick(NOW + 40 + 6 * i)
    assert [lost.id for lost in expired] == [other.id]


def test_progress_of_a_stranger_changes_nothing():
    pool = make_pool(work=WORK, silence_seconds=10)
    lease = pool.lease(A.address, b"a", NOW)
    assert not pool.progress(B.address, b"b", lease.id, 19, NOW + 9)
    assert pool.tick(NOW + 10)


def test_the_only_member_gets_its_own_expired_lease_back():
    pool = make_pool(work=WORK, silence_seconds=10)
    lease = pool.lease(A.address, b"a", NOW)
    pool.tick(NOW + 20)
    assert pool.lease(A.address, b"a", NOW + 21).genotypes == lease.genotypes


def test_a_pool_that_was_away_does_not_blame_its_members():
    storage = MemoryStorage()
    lease = make_pool(storage, WORK, silence_seconds=10).lease(A.address, b"a", NOW)
    pool = make_pool(storage.copy(), silence_seconds=10)
    assert pool.tick(NOW + 1000) == []
    pool.set_work(WORK, NOW + 1000)
    assert pool.lease(A.address, b"a", NOW + 1001).genotypes == lease.genotypes
    assert pool.tick(NOW + 1011)


def test_after_a_restart_an_expired_lease_stays_expired():
    storage = MemoryStorage()
    before = make_pool(storage, WORK, silence_seconds=10)
    lease = before.lease(A.address, b"a", NOW)
    before.tick(NOW + 10)
    pool = make_pool(storage.copy(), WORK, silence_seconds=10)
    backup = pool.lease(B.address, b"b", NOW + 11)
    assert backup.genotypes == lease.genotypes
    assert backup.id != lease.id
    assert set(make_pool(storage.copy(), WORK).leases.taken()) == set(lease.genotypes)


def test_an_architecture_that_nobody_can_train_is_given_up():
    pool = make_pool(work=WORK, failures=2, lease_size=1)
    (genotype,) = pool.lease(A.address, b"a", NOW).genotypes
    pool.release(A.address, 1, genotype)
    second = pool.lease(B.address, b"b", NOW)
    assert second.genotypes == (genotype,)
    pool.release(A.address, second.id, genotype)
    pool.release(B.address, second.id, genotype)
    assert genotype in pool.leases.taken()
    assert pool.lease(C.address, b"c", NOW).genotypes != (genotype,)
    assert pool.summary().leases == 1


def test_no_lease_without_work_or_shortly_before_the_commits_close():
    pool = make_pool()
    with pytest.raises(NoLease, match="no search"):
        pool.lease(A.address, b"a", NOW)
    pool.set_work(make_work(closes=NOW + 100), NOW)
    assert pool.lease(A.address, b"a", NOW).deadline == NOW + 100
    with pytest.raises(NoLease) as caught:
        pool.lease(B.address, b"b", NOW + 99)
    assert caught.value.code == "closing"
    pool.set_work(None, NOW)
    with pytest.raises(NoLease, match="no search"):
        pool.lease(B.address, b"b", NOW)


def test_a_new_epoch_drops_leases_and_starts_from_the_best_of_the_last():
    storage = MemoryStorage()
    pool = make_pool(storage, WORK, lease_size=3, starting_points=2)
    lease = pool.lease(A.address, b"a", NOW)
    for genotype, correct in zip(lease.genotypes, (100, 300, 200), strict=True):
        submit(pool, lease, genotype, A, correct)
    unfinished = pool.lease(A.address, b"a", NOW)
    best = (lease.genotypes[1], lease.genotypes[2])
    pool.set_work(make_work(2), NOW)
    for same in (pool, make_pool(storage.copy(), make_work(2), lease_size=3, starting_points=2)):
        assert same.archive.starting_points == best
        assert same.candidates(5) == []
        assert same.summary().leases == 0
    assert pool.lease(A.address, b"a", NOW).genotypes[0] == best[0]
    signed, model = make_share(WORK, unfinished, unfinished.genotypes[0], A, 100)
    with pytest.raises(Exception, match="over"):
        pool.check_share(A.public, signed, model, NOW)


def test_another_seed_in_the_same_epoch_is_another_search():
    pool = make_pool(work=WORK)
    lease = pool.lease(A.address, b"a", NOW)
    submit(pool, lease, lease.genotypes[0], A, 100)
    pool.set_work(make_work(seed=bytes(32)), NOW)
    assert pool.candidates(5) == []
    pool.set_work(WORK, NOW)
    assert [found.genotype for found in pool.candidates(5)] == [lease.genotypes[0]]


def archive_of(scores):
    archive = Archive(Domain(WORK.spec))
    for genotype, correct in scores.items():
        archive.add(Candidate(genotype, (), b"", 0, correct, 400, b""))
    return archive


def test_evolution_beats_random_on_a_smooth_landscape():
    rng = random.Random(5)
    print("seed 5")
    found = {}
    for strategy in (RandomSearch(), Evolution(population=32, tournament=8)):
        archive = archive_of({})
        for _ in range(250):
            genotype = strategy.propose(archive, (), rng)
            assert genotype is not None
            assert genotype not in archive
            score = 100 + sum(min(gene, 3) for gene in genotype) * 5
            archive.add(Candidate(genotype, (), b"", 0, score, 400, b""))
        found[strategy.name] = sum(result.validation_correct for result in archive.best(20))
    print(found)
    assert found["evolution"] > found["random"]


def test_ranking_prefers_fewer_macs_and_a_nearly_empty_subspace_ends():
    domain = Domain(WORK.spec)
    rng = random.Random(1)
    picks = sorted({domain.space.sample(rng) for _ in range(20)} - {None})
    picks = [genotype for genotype in picks if domain.cost(genotype)]
    archive = archive_of(dict.fromkeys(picks, 100))
    macs = [domain.cost(result.genotype).macs for result in archive.best(99)]
    assert macs == sorted(macs)
    whole = picks[0]
    assert RandomSearch().propose(archive, (), rng, whole) is None
    assert Evolution().propose(archive, (), rng, whole) is None


def report(pool, held, seconds, speed, now):
    """A holder does `speed` steps a second and reports every 5 seconds; returns the time after it."""
    key_, lease = held
    for i in range(1, seconds // 5 + 1):
        step = pool.leases.held[lease.id].step + int(speed * 5)
        pool.progress(key_.address, b"w", lease.id, step, now + 5 * i)
    return now + seconds


def crowd(count=6, **settings):
    """Members with a lease each, of 2,000 steps an architecture, that have run at 2 steps a second for 150 seconds."""
    pool = make_pool(work=make_work(steps=2000), silence_seconds=60, **settings)
    members = [(key(number), pool.lease(key(number).address, b"w", NOW)) for number in range(count)]
    for held in members:
        report(pool, held, 150, 2, NOW)
    assert pool.tick(NOW + 150) == []
    return pool, members


def test_who_falls_behind_gets_a_backup_and_may_still_finish():
    pool, members = crowd()
    slow, lease = members[0]
    now = NOW + 150
    while not pool.leases.held[lease.id].backed:
        for held in members[1:]:
            report(pool, held, 10, 2, now)
        now = report(pool, members[0], 10, 0.4, now)
        found = pool.tick(now)
        assert now < NOW + 400, "a member at a fifth of its speed was not noticed"
    assert [late.id for late in found] == [lease.id]
    assert pool.progress(slow.address, b"w", lease.id, 3000, now)
    backup = pool.lease(C.address, b"backup", now)
    assert backup.genotypes == lease.genotypes
    assert pool.lease(slow.address, b"w", now).id == lease.id
    first, second = lease.genotypes
    assert submit(pool, lease, first, slow, 100, now).points == 60
    assert submit(pool, backup, second, C, 100, now).points == 60
    with pytest.raises(ShareRefused, match="already"):
        submit(pool, backup, first, C, 100, now)


def test_members_at_their_own_steady_pace_get_no_backup():
    pool, members = crowd()
    now = NOW + 150
    for _ in range(12):
        for number, held in enumerate(members):
            report(pool, held, 20, 1.8 + 0.08 * number, now)
        now += 20
        assert pool.tick(now) == []


def test_a_backup_is_kept_across_a_restart_and_a_backup_that_falls_silent_is_replaced():
    storage = MemoryStorage()
    pool = make_pool(storage, make_work(steps=2000), silence_seconds=60)
    lease = pool.lease(A.address, b"a", NOW)
    held = pool.leases.held[lease.id]
    held.backed = True
    storage.write([held.record])
    pool = make_pool(storage.copy(), silence_seconds=60)
    pool.set_work(make_work(steps=2000), NOW)
    assert pool.leases.held[lease.id].backed
    backup = pool.lease(B.address, b"b", NOW + 1)
    assert backup.genotypes == lease.genotypes
    pool.progress(A.address, b"a", lease.id, 3, NOW + 50)
    assert [late.id for late in pool.tick(NOW + 61)] == [backup.id]
    assert pool.lease(C.address, b"c", NOW + 61).genotypes == lease.genotypes


def test_deadlines_follow_the_measured_speed_and_the_close():
    pool, members = crowd(lease_seconds=900)
    member, lease = members[0]
    assert lease.deadline == NOW + 900
    for genotype in lease.genotypes:
        submit(pool, lease, genotype, member, 100, NOW + 150)
    again = pool.lease(member.address, b"w", NOW + 150)
    usual = pool.leases.speeds.of((member.address, b"w"))
    seconds = 2000 * sum(map(pool.leases.cost, again.genotypes)) / usual
    assert again.deadline - again.granted == pytest.approx(min(3 * seconds + 60, 3450), abs=0.01)
    assert pool.leases.duration((member.address, b"new"), again.genotypes) is None
    for genotype in again.genotypes:
        submit(pool, again, genotype, member, 100, NOW + 160)
    late = pool.lease(member.address, b"w", NOW + 3500)
    assert len(late.genotypes) == 1  # a second one would not be done before the close
    assert late.deadline == NOW + 3600


def test_a_lease_that_cannot_end_before_the_close_gets_a_backup_where_another_could():
    pool = make_pool(work=make_work(steps=2000), silence_seconds=60, lease_size=1)
    fast = [(key(number), pool.lease(key(number).address, b"w", NOW)) for number in range(4)]
    slow = key(9), pool.lease(key(9).address, b"w", NOW)
    for held in fast:
        report(pool, held, 300, 4, NOW)
    report(pool, slow, 300, 0.4, NOW)
    assert [late.id for late in pool.tick(NOW + 300)] == [slow[1].id]


def test_claimed_steps_count_only_up_to_the_end_of_the_lease():
    pool, members = crowd()
    member, lease = members[0]
    pool.progress(member.address, b"w", lease.id, 2**60, NOW + 151)
    assert pool.leases.held[lease.id].step == 4000
    assert not pool.tick(NOW + 152)


def test_a_worker_that_starts_again_in_the_middle_of_a_lease_is_not_taken_for_silent():
    pool = make_pool(work=WORK, silence_seconds=10)
    lease = pool.lease(A.address, b"a", NOW)
    pool.progress(A.address, b"a", lease.id, 30, NOW + 1)
    submit(pool, lease, lease.genotypes[0], A, 100, NOW + 2)
    assert pool.lease(A.address, b"a", NOW + 3).genotypes == lease.genotypes[1:]
    for i in range(1, 10):
        assert pool.progress(A.address, b"a", lease.id, i, NOW + 3 + 5 * i)
        assert pool.tick(NOW + 3 + 5 * i) == []
