"""The partition of a search space: every architecture in exactly one leaf, exact sizes, splits at good results."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.spaces import SPACES
from pool.errors import NoLease
from pool.partition import Partition
from pool.search import RandomSearch
from pool.storage import MemoryStorage
from pool.subspace import Domain
from tests.pool.kit import NOW, key, make_pool, make_spec, make_work, submit

A = key(1)


def check(partition, rng, samples=20):
    """Leaves are disjoint, cover the space with their exact sizes, and hold the results that start with them."""
    space, leaves = partition.space, partition.leaves
    assert sum(leaf.size for leaf in leaves.values()) == space.distinct_count()
    for prefix, leaf in leaves.items():
        assert leaf.prefix == prefix and leaf.size == space.count(prefix) > 0
        assert not any(prefix[:length] in leaves for length in range(len(prefix)))
        assert all(genotype.startswith(prefix) for genotype in leaf.results)
    assert sum(len(leaf.results) for leaf in leaves.values()) == partition.results
    for _ in range(samples):
        genotype = space.sample(rng)
        holders = [prefix for prefix in leaves if genotype.startswith(prefix)]
        assert holders == [partition.find(genotype).prefix]


def score_of(genotype, salt):
    """A landscape with slopes, plateaus and noise."""
    return sum(gene * ((salt >> position) % 4) for position, gene in enumerate(genotype)) * (salt % 3)


@settings(deadline=None, print_blob=True, max_examples=60)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 60))
def test_every_architecture_is_in_exactly_one_leaf_at_all_times(name, seed, least, most):
    rng = random.Random(seed)
    partition = Partition(SPACES[name], least, most, enough=rng.randint(2, 20))
    start = len(partition.leaves)
    assert start >= least
    known = {}
    for step in range(rng.randint(0, 250)):
        near = known and rng.random() < 0.7
        genotype = partition.space.mutate(max(known, key=known.get), rng) if near else partition.space.sample(rng)
        if known and rng.random() < 0.05:
            gone = rng.choice(sorted(known))
            partition.remove(gone)
            del known[gone]
        if genotype not in known:
            known[genotype] = score_of(genotype, seed)
            partition.add(genotype, known[genotype])
        if step % 25 == 0:
            check(partition, rng, 5)
        assert len(partition.leaves) <= max(least, most, start)
    check(partition, rng)
    assert {genotype for leaf in partition.leaves.values() for genotype in leaf.results} == known.keys()


@settings(deadline=None, print_blob=True, max_examples=20)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32))
def test_the_same_results_in_the_same_order_give_the_same_tree(name, seed):
    rng = random.Random(seed)
    results = [(genotype, score_of(genotype, seed)) for genotype in {SPACES[name].sample(rng) for _ in range(200)}]
    one, two = (Partition(SPACES[name], 8, 40, 8) for _ in range(2))
    for partition in (one, two):
        for genotype, score in results:
            partition.add(genotype, score)
        for genotype, _ in results[::7]:
            partition.remove(genotype)
    assert one.leaves == two.leaves


def test_the_start_is_balanced():
    assert {prefix: leaf.size for prefix, leaf in Partition(SPACES["stages-v1"], 8).leaves.items()} == {
        bytes([kernel, width]): 6_843_937_572 // 12 for kernel in range(2) for width in range(6)
    }
    sizes = [leaf.size for leaf in Partition(SPACES["nb201-v1"], 8).leaves.values()]
    assert sum(sizes) == 6466 and len(sizes) >= 8 and max(sizes) <= 6466 / 4


def test_it_splits_where_the_results_are_good_and_joins_what_proved_poor():
    space, rng = SPACES["stages-v1"], random.Random(2)
    partition, known = Partition(space, 8, 40), set()
    for level, good in enumerate([bytes([0, 1]), bytes([1, 4])], start=1):
        for _ in range(600):
            genotype = space.sample_uniform(good if rng.random() < 0.5 else b"", rng)
            if genotype not in known:
                known.add(genotype)
                partition.add(genotype, sum(genotype) + 1000 * level * genotype.startswith(good))
        check(partition, rng)
        fine = [prefix for prefix in partition.leaves if len(prefix) > 2]
        inside = [prefix for prefix in fine if prefix.startswith(good)]
        print(level, len(partition.leaves), len(fine), len(inside))
        assert len(inside) > 0.8 * len(fine) > 15, "the detail is where the best results are now"


def test_a_whole_small_space_is_searched_without_repetition():
    """A pool leases every cell that the task admits once, and never one twice."""
    pool = make_pool(work=make_work(space="nb201-v1", max_parameters=30_000), strategy=RandomSearch(), lease_size=4)
    domain, handed = pool.archive.domain, []
    space = domain.space
    admitted = {space.at(b"", index) for index in range(space.distinct_count()) if domain.cost(space.at(b"", index))}
    while True:
        try:
            lease = pool.lease(A.address, b"w", NOW)
        except NoLease as error:
            assert error.code == "exhausted"
            break
        for genotype in lease.genotypes:
            submit(pool, lease, genotype, A, 41 + sum(genotype))
        handed.extend(lease.genotypes)
    assert len(set(handed)) == len(handed) == len(pool.archive)
    assert set(handed) <= admitted
    check(domain.partition, random.Random(0))
    print(len(handed), len(admitted))
    assert len(handed) > 0.98 * len(admitted)


def test_a_killed_pool_has_the_same_subspaces_and_shows_them():
    storage, work = MemoryStorage(), make_work()
    pool = make_pool(storage, work)
    while len(pool.archive) < 150:
        lease = pool.lease(A.address, b"w", NOW)
        for genotype in lease.genotypes:
            assert genotype.startswith(lease.prefix)
            submit(pool, lease, genotype, A, 41 + 3 * genotype[1] + genotype[2])
    again = make_pool(storage)
    assert again.summary().subspaces == pool.summary().subspaces
    assert again.archive.domain.partition.leaves == pool.archive.domain.partition.leaves
    views = pool.summary().subspaces
    assert len(views) > 12, "some were split"
    assert sum(view.size for view in views) == 6_843_937_572
    assert sum(view.results for view in views) == len(pool.archive)
    assert max(view.best for view in views if view.best is not None) == pool.candidates(1)[0].validation_correct


@pytest.mark.parametrize("limit", [3000, 800])
def test_subspaces_with_nothing_left_are_tried_last(limit):
    domain = Domain(make_spec(max_parameters=limit))
    rng = random.Random(4)
    for prefix in domain.prefixes:
        drawn = [domain.sample(prefix, rng) for _ in range(200)]
        assert not domain.barren(prefix) or sum(domain.cost(genotype) is not None for genotype in drawn) < 20
    cell = Domain(make_spec(space="nb201-v1"), least_subspaces=3000)
    small = min(cell.partition.leaves.values(), key=lambda leaf: (leaf.size, leaf.prefix))
    for index in range(small.size):
        genotype = cell.space.at(small.prefix, index)
        if cell.cost(genotype) is not None:
            assert not cell.barren(small.prefix)
            cell.partition.add(genotype, 1)
    assert cell.barren(small.prefix)


def test_two_thousand_results_a_second_are_no_burden():
    space, rng = SPACES["stages-v1"], random.Random(6)
    partition = Partition(space)
    results = sorted({space.sample(rng) for _ in range(20_000)}, key=lambda genotype: rng.random())
    start = time.perf_counter()
    for genotype in results:
        partition.add(genotype, sum(genotype))
    spent = time.perf_counter() - start
    print(f"{len(results) / spent:.0f} results a second, {len(partition.leaves)} leaves")
    assert len(results) / spent > 2000
