"""The benchmark of search: its tables are whole, and its arithmetic agrees with drawing."""

import random
from math import comb
from statistics import fmean

import pytest

from bench import segments, tpe
from bench.pool_search import speedups, under_virtual_time
from bench.search_runs import Setting, independent, partition, rounds_after_a_blind_one, search
from bench.table import TRAINED, load, read
from pool.search import STRATEGIES

TABLE = load(None, "")
TOP = sorted(TABLE.scores.values())[-6]


def test_the_shipped_tables_are_whole_and_agree():
    assert len(TABLE.scores) == len(read(TRAINED, "nb201-v1")) == 2184
    rows = segments.SAMPLE.read_text().splitlines()[1:]
    last = {bytes.fromhex(row.split(",")[0]): float(row.split(",")[-1]) for row in rows}
    assert len(last) == 256
    assert last == {genotype: TABLE.scores[genotype] for genotype in last}


@pytest.mark.parametrize(("name", "members"), [("surrogate", 1), ("surrogate", 16), ("evolution", 4)])
def test_a_search_of_the_table_trains_nothing_twice_and_ends_at_the_target(name, members):
    strategy = under_virtual_time(STRATEGIES[name])
    found = search(Setting(TABLE, TOP, 2184), strategy, members, 3)
    assert found == search(Setting(TABLE, TOP, 2184), strategy, members, 3)
    assert (found.evaluations, found.repeated) == (found.rounds * members, 0)
    assert found.best[-1] >= TOP and list(found.best) == sorted(found.best)
    short = search(Setting(TABLE, 101.0, 32), strategy, members, 3)
    assert short.evaluations == 32


def test_a_static_partition_finds_the_target_in_somebodys_part():
    strategy = STRATEGIES["random"]
    rounds = [partition(Setting(TABLE, TOP, 2184), strategy, 8, seed) for seed in range(3)]
    assert all(1 <= found < 2184 // 8 for found in rounds)


def test_independent_miners_are_as_fast_as_the_first_of_them():
    rng = random.Random(5)
    rounds = [rng.randrange(1, 60) for _ in range(50)]
    drawn = fmean(min(rng.choices(rounds, k=4)) for _ in range(40_000))
    assert independent(rounds, 4) == pytest.approx(drawn, rel=0.02)
    assert independent(rounds, 1) == pytest.approx(fmean(rounds))


def test_a_blind_round_misses_as_often_as_it_should():
    missed = rounds_after_a_blind_one(Setting(TABLE, TOP, 100), 64) - 1
    good = sum(score >= TOP for score in TABLE.scores.values())
    assert missed == pytest.approx(comb(2184 - 64, good) / comb(2184, good))


def test_speedups_are_over_the_best_and_over_the_average_solo_miner():
    rounds = {("a", 1): 30.0, ("b", 1): 50.0, ("a", 4): 10.0, ("b", 4): 6.0}
    assert speedups(rounds, [4]) == {"speedup": {"N4": 5.0}, "speedup_over_average_solo": {"N4": 6.667}}


def test_a_bracket_halves_at_doubled_segments():
    drawn = [(1.0, 9, 9, 9), (2.0, 1, 1, 8), (3.0, 2, 2, 7), (4.0, 3, 3, 6)]
    best, cost = segments.halve(drawn)
    assert (best, cost) == (7, 4 + 2 * 3)  # two go on; both are trained to the end, and the better one wins
    assert segments.halve(drawn[:1]) == (9, 4)


def test_tpe_finds_the_target():
    found = tpe.search(Setting(TABLE, TOP, 2184), 3)
    assert found.best[-1] >= TOP and found.rounds < 2184
