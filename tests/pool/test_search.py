from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.pool import PoolSettings
from pool.search import DEFAULT_STRATEGY, Archive, Evolution, LocalSearch, Reinforce, Surrogate, surrogate
from pool.search import STRATEGIES as CHOICES
from pool.search.archive import TOP
from pool.search.gaussian import Process
from pool.search.surrogate import PENDING, _fitted
from pool.subspace import Domain
from pool.work import Candidate
from tests.pool.kit import make_spec

STRATEGIES = {
    name: Surrogate(clock=lambda: 0.0) if name == "surrogate" else strategy for name, strategy in CHOICES.items()
}
SPACES = ["nb201-v1", "stages-v1"]
SPECS = {
    "nb201-v1": make_spec(space="nb201-v1", max_macs=270_000),
    "stages-v1": make_spec(max_macs=600_000),
}


def result(genotype: bytes, correct: int) -> Candidate:
    return Candidate(genotype, (), b"", 0, correct, 10_000, b"")


def smooth(genotype: bytes) -> int:
    """A landscape with optima of its own: single genes and pairs of neighbours matter."""
    single = sum(40 * (gene * 7 % 5) for gene in genotype)
    return single + sum(90 for one, other in itertools.pairwise(genotype) if (one + other) % 5 == 4)


def searched(strategy, spec, steps: int, seed: int) -> Archive:
    archive, rng = Archive(Domain(spec)), random.Random(seed)
    for _ in range(steps):
        genotype = strategy.propose(archive, (), rng)
        archive.add(result(genotype, smooth(genotype)))
    return archive


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", sorted(STRATEGIES))
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_proposals_are_new_admitted_and_of_the_subspace(name, space, seed):
    strategy, domain, rng = STRATEGIES[name], Domain(SPECS[space]), random.Random(seed)
    archive, taken = Archive(domain, (domain.space.sample(rng),)), set()
    for _ in range(60):
        within = domain.prefix(rng.choice(sorted(taken))) if taken and rng.random() < 0.3 else b""
        genotype = strategy.propose(archive, taken, rng, within)
        if genotype is None:
            assert within
            continue
        assert genotype not in taken
        assert genotype not in archive
        assert genotype.startswith(within)
        assert domain.space.canonical(genotype) == genotype
        assert domain.cost(genotype) is not None
        taken.add(genotype)
        if len(taken) > 5:
            done = rng.choice(sorted(taken))
            taken.discard(done)
            archive.add(result(done, rng.randrange(10_000)))
        if len(archive) and rng.random() < 0.05:
            archive.remove(archive.recent(1)[0])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", sorted(STRATEGIES))
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_rebuilt_archive_gives_the_same_proposals(name, space, seed):
    strategy, rng = STRATEGIES[name], random.Random(seed)
    archive = Archive(Domain(SPECS[space]))
    for number in range(40):
        taken = set()
        for _ in range(3):
            taken.add(strategy.propose(archive, taken, rng))
        if number % 20 == 19:
            rebuilt = Archive(Domain(SPECS[space]))
            for known in archive:
                rebuilt.add(known)
            state = rng.getstate()
            proposed = strategy.propose(archive, taken, rng)
            rng.setstate(state)
            assert strategy.propose(rebuilt, taken, rng) == proposed
        for genotype in sorted(taken)[:2]:
            archive.add(result(genotype, smooth(genotype)))


@pytest.mark.parametrize("space", SPACES)
def test_strategies_beat_random_and_the_surrogate_beats_them_all(space):
    def level(strategy) -> float:
        archives = [searched(strategy, SPECS[space], 80, seed) for seed in range(3)]
        return sum(archive.best(1)[0].validation_correct for archive in archives) / len(archives)

    levels = {name: level(strategy) for name, strategy in STRATEGIES.items()}
    print(levels)
    for name in ("evolution", "local", "reinforce", "surrogate"):
        assert levels[name] > levels["random"], name
    assert levels["surrogate"] == max(levels.values())


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_space_is_searched_to_its_end_and_no_further(name):
    spec = make_spec(space="nb201-v1", max_macs=162_000)
    domain, strategy, rng = Domain(spec, 1), STRATEGIES[name], random.Random(3)
    archive = Archive(domain)
    while (genotype := strategy.propose(archive, (), rng)) is not None:
        archive.add(result(genotype, smooth(genotype)))
    from consensus.spaces.cells import classes

    admitted = {cell for cell in classes().admitted if domain.cost(cell) is not None}
    assert len(admitted) > 20
    assert len(archive) >= 0.9 * len(admitted)
    if name == "surrogate":
        assert len(archive) == len(admitted)


def test_a_refuted_result_is_forgotten_and_may_be_proposed_again():
    strategy = STRATEGIES["surrogate"]
    archive = searched(strategy, SPECS["nb201-v1"], 40, 1)
    best = archive.best(1)[0].genotype
    archive.remove(best)
    rng, taken = random.Random(1), set()
    for _ in range(40):
        taken.add(strategy.propose(archive, taken, rng))
    assert best in taken


def test_local_search_climbs_from_the_best():
    archive = searched(LocalSearch(), SPECS["nb201-v1"], 60, 2)  # seed 2
    domain = archive.domain
    around = [
        [
            near
            for near in domain.space.neighbours(best.genotype)
            if domain.cost(near) is not None and near not in archive
        ]
        for best in archive.best(16)
    ]
    left = next(near for near in around if near)
    assert LocalSearch().propose(archive, (), random.Random(2)) in left


def test_where_all_that_is_next_to_the_best_is_leased_evolution_goes_on_from_there():
    domain, rng = Domain(SPECS["stages-v1"]), random.Random(11)
    parent = domain.sample(b"", rng)
    while domain.cost(parent) is None:
        parent = domain.sample(b"", rng)
    archive = Archive(domain)
    archive.add(result(parent, 1))
    near = domain.space.neighbours(parent)
    further = {genotype for one in near for genotype in domain.space.neighbours(one)}
    assert len(further) * 100 < domain.space.distinct_count()
    found = [Evolution().propose(archive, set(near), random.Random(seed)) for seed in range(50)]
    assert set(found) <= further - {*near, parent}


def test_the_surrogate_begins_with_larger_architectures_than_chance_but_not_with_the_largest_only():
    domain, rng, strategy = Domain(make_spec()), random.Random(9), STRATEGIES["surrogate"]
    archive, taken = Archive(domain), set()
    while len(taken) < 200:
        taken.add(strategy.propose(archive, taken, rng))
    drawn = [domain.cost(domain.sample(b"", rng)) for _ in range(400)]
    middle = statistics.median(cost.macs for cost in drawn if cost is not None)
    larger = sum(domain.cost(genotype).macs > middle for genotype in taken) / len(taken)
    assert 0.8 < larger < 0.95, "of three draws all are below the median in one case of eight"


def test_the_controller_learns_which_genes_are_good():
    archive, rng = Archive(Domain(SPECS["stages-v1"])), random.Random(4)
    found = []
    for _ in range(300):
        genotype = Reinforce().propose(archive, (), rng)
        found.append(smooth(genotype))
        archive.add(result(genotype, found[-1]))
    assert sum(found[-50:]) > sum(found[:50])


def test_the_fit_follows_the_archive_in_steps_of_a_thirty_second():
    counts = [_fitted(count) for count in range(1, 5000)]
    assert counts == sorted(counts)
    assert all(count - count // 32 <= fitted <= count for count, fitted in enumerate(counts, start=1))
    assert len({fitted for fitted in counts if fitted >= 512}) <= 32 * 4


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_surrogate_keeps_to_its_share_of_the_time_and_then_proposals_cost_little(monkeypatch):
    clock, fits = Clock(), []

    def slow(*arguments):
        clock.now += 0.05
        fits.append(clock.now)
        return Process(*arguments)

    monkeypatch.setattr(surrogate, "Process", slow)
    strategy, rng = Surrogate(clock=clock, share=0.1, burst=1.0), random.Random(6)
    archive, taken = Archive(Domain(SPECS["stages-v1"])), dict.fromkeys([])
    for _ in range(4000):
        clock.now += 1 / 2000
        genotype = strategy.propose(archive, taken, rng)
        assert genotype not in archive and genotype not in taken
        taken[genotype] = None
        if len(taken) > 100:
            done = next(iter(taken))
            del taken[done]
            archive.add(result(done, smooth(done)))
    assert 20 <= len(fits) <= (1.0 + 0.1 * clock.now) / 0.05 + 1
    clock.now += 60
    strategy.propose(archive, taken, rng)
    assert fits[-1] == clock.now, "when it is calm, the model is fitted to what came in"


def test_ten_thousand_leases_are_looked_up_and_not_walked():
    class Leases(dict):
        walked = 0

        def __iter__(self):
            for walked in super().__iter__():
                Leases.walked += 1
                yield walked

    for name, strategy in STRATEGIES.items():
        rng, archive, taken = random.Random(8), Archive(Domain(SPECS["stages-v1"])), Leases()
        while len(taken) < 10_000:
            taken[archive.domain.sample(b"", rng)] = None
        for genotype in list(taken)[:100]:
            del taken[genotype]
            if archive.domain.cost(genotype) is not None:
                archive.add(result(genotype, smooth(genotype)))
        Leases.walked, proposals = 0, 20
        for _ in range(proposals):
            taken[strategy.propose(archive, taken, rng)] = None
        assert Leases.walked <= PENDING * proposals / 10, name


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_the_best_are_the_best_however_results_come_and_go(seed):
    rng, archive = random.Random(seed), Archive(Domain(SPECS["nb201-v1"]))
    for _ in range(300):
        genotype = archive.domain.sample(b"", rng)
        archive.add(result(genotype, rng.randrange(50)))
        if rng.random() < 0.3:
            archive.remove(rng.choice([*archive.recent(100), archive.best(1)[0].genotype]))
    ordered = sorted((known.genotype for known in archive), key=archive.rank)
    for limit in (0, 1, 20, TOP, TOP + 1, 1000):
        assert [known.genotype for known in archive.best(limit)] == ordered[:limit]


def test_the_default_is_the_surrogate():
    assert isinstance(CHOICES[DEFAULT_STRATEGY], Surrogate)
    assert PoolSettings(bytes(32), 1).strategy is CHOICES[DEFAULT_STRATEGY]
