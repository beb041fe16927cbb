"""Payout schemes, the operator's fee, and what is carried over."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.book import Book
from pool.payouts import FINDER_PARTS, lines, table
from pool.pool import Pool
from pool.records import BanEntry, Credit, PaidEntry, RoundEntry, Terms, TermsEntry
from pool.schemes import Pplns, Scored, check_terms
from pool.storage import MemoryStorage
from tests.pool.kit import NOW, key, make_settings, make_work, submit

MEMBERS = [key(number).address for number in range(6)]
OPERATOR = key(50).address
POINTS = st.lists(st.integers(1, 2**40), min_size=1, max_size=6)


@given(POINTS, st.integers(0, 7), st.integers(1, 5000), st.booleans())
def test_a_fee_leaves_the_members_proportions_as_they_are(points, finder, fee, mining_operator):
    operator = MEMBERS[0] if mining_operator else OPERATOR
    credits = tuple(Credit(address, count) for address, count in zip(MEMBERS, points, strict=False))
    finders = [*MEMBERS, OPERATOR, key(51).address]
    found = table(credits, finders[finder], len(credits) + 2, Terms(fee=fee, operator=operator))
    total = sum(line.weight for line in found)
    parts: Counter[bytes] = Counter()
    for credit in credits:
        parts[credit.address] += Fraction(credit.points, sum(points)) * Fraction(FINDER_PARTS - 1, FINDER_PARTS)
    parts[finders[finder]] += Fraction(1, FINDER_PARTS)
    wanted = Counter({address: part * (1 - Fraction(fee, 10_000)) for address, part in parts.items()})
    wanted[operator] += Fraction(fee, 10_000)
    assert {line.address for line in found} == set(wanted)
    for line in found:
        assert 1 <= line.weight < 2**32
        assert abs(Fraction(line.weight, total) - wanted[line.address]) <= Fraction(1, 2**30)


@given(st.integers(1, 8), st.integers(0, 9), st.integers(0, 1))
def test_no_table_is_longer_than_the_consensus_takes(limit, members, fee):
    terms = Terms(fee=100 * fee, operator=OPERATOR if fee else bytes(20))
    addresses = [key(number).address for number in range(members)]
    credits = tuple(Credit(address, 5) for address in addresses[: lines(limit, terms)])
    assert len(table(credits, key(90).address, limit, terms)) <= limit


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300)), max_size=60), st.integers(1, 1000))
def test_the_window_is_the_last_points_exactly(works, size):
    scheme = Pplns(size)
    units: list[bytes] = []
    for number, (member, points) in enumerate(works):
        assert scheme.add(Scored(number, MEMBERS[member], points)) == 0
        units += [MEMBERS[member]] * points
        assert +scheme.window() == Counter(units[-size:])
    since, cut = scheme.since
    after = Counter()
    for number, (member, points) in enumerate(works):
        after[MEMBERS[member]] += points if number > since else points - cut if number == since else 0
    assert +after == +scheme.window()


class Played:
    """A book whose entries are shortened to what this test needs."""

    def __init__(self, terms: Terms) -> None:
        self.book, self.number = Book(), 0
        self.add(TermsEntry(terms, 0, 0))

    def add(self, entry) -> None:
        self.book.apply(self.number, entry)
        self.number += 1

    def share(self, member: int, points: int) -> None:
        self.book.scored[MEMBERS[member]] += points
        self.book.earned[MEMBERS[member]] += self.book.scheme.add(Scored(self.number, MEMBERS[member], points))
        self.number += 1

    def round(self, epoch: int, limit: int) -> dict[bytes, int]:
        self.add(RoundEntry(epoch, self.book.due(limit), self.book.terms, *self.book.scheme.since))
        return {credit.address: credit.points for credit in self.book.rounds[epoch].credits}

    def paid(self, epoch: int) -> None:
        self.add(PaidEntry(bytes([epoch]) * 32, epoch, (), self.book.debits(epoch)))


def test_pplns_pays_a_window_again_and_carries_over_what_found_no_line():
    played = Played(Terms("pplns", 100))
    played.share(0, 60)
    played.share(1, 30)
    played.share(2, 10)
    assert played.round(1, 2) == {MEMBERS[0]: 60, MEMBERS[1]: 30}
    played.paid(1)
    assert [played.book.carried(address) for address in MEMBERS[:3]] == [0, 0, 10]
    assert played.round(2, 2) == {MEMBERS[0]: 60, MEMBERS[1]: 30}
    assert played.round(3, 3) == {MEMBERS[0]: 60, MEMBERS[1]: 30, MEMBERS[2]: 20}
    played.paid(3)  # before 2, which is decided later and then adds its window to what is carried
    assert played.book.carried(MEMBERS[2]) == 0
    played.paid(2)
    assert played.book.carried(MEMBERS[2]) == 10
    played.share(1, 100)
    assert played.round(4, 3) == {MEMBERS[1]: 100, MEMBERS[2]: 10}
    played.paid(4)
    assert played.round(5, 3) == {MEMBERS[1]: 100}


@given(st.integers(0, 2**32))
def test_whatever_the_scheme_nothing_is_paid_that_was_not_earned(seed):
    rng = random.Random(seed)
    played, epoch = Played(Terms("pplns", 200)), 0
    for _ in range(80):
        what = rng.choice(["share", "share", "share", "round", "paid", "terms"])
        if what == "share":
            played.share(rng.randrange(6), rng.randint(0, 80))
        elif what == "round":
            epoch += 1
            played.round(epoch, rng.randint(1, 6))
        elif what == "paid" and played.book.open_rounds:
            played.paid(rng.choice(sorted(played.book.open_rounds)))
        elif what == "terms":
            played.add(TermsEntry(rng.choice([Terms(), Terms("pplns", rng.randint(1, 400)), Terms(minimum=50)]), 0, 0))
        for address in MEMBERS:
            assert played.book.carried(address) >= played.book.reserved()[address] >= 0
    for open_epoch in sorted(played.book.open_rounds):
        played.paid(open_epoch)
    assert all(played.book.carried(address) >= 0 for address in MEMBERS)


def test_small_amounts_are_carried_until_they_are_large_enough():
    played = Played(Terms(minimum=50))
    played.share(0, 60)
    played.share(1, 30)
    assert played.round(1, 9) == {MEMBERS[0]: 60}
    played.paid(1)
    played.share(1, 20)
    assert played.round(2, 9) == {MEMBERS[1]: 50}


def test_a_window_that_is_given_up_is_earned():
    played = Played(Terms("pplns", 100))
    played.share(0, 70)
    played.share(1, 50)
    played.add(TermsEntry(Terms(), 0, 0))
    assert played.round(1, 9) == {MEMBERS[0]: 50, MEMBERS[1]: 50}


def test_new_terms_hold_from_the_next_round_and_an_open_one_keeps_its_own():
    storage = MemoryStorage()
    pool = Pool(storage, make_settings(), random.Random(1))
    pool.set_work(make_work(), NOW)
    for number in range(2):
        lease = pool.lease(MEMBERS[number], b"w", NOW)
        submit(pool, lease, lease.genotypes[0], key(number), 140)
    before = pool.payouts_for(pool.candidates(1)[0], 9)
    pool = Pool(storage, make_settings(terms=Terms("pplns", 1000, 500, OPERATOR)), random.Random(1))
    assert pool.payouts_for(pool.candidates(1)[0], 9) == before
    pool.round_void(1)
    pool.set_work(make_work(2), NOW)
    lease = pool.lease(MEMBERS[2], b"w", NOW)
    submit(pool, lease, lease.genotypes[0], key(2), 140)
    after = {line.address: line.weight for line in pool.payouts_for(pool.candidates(1)[0], 9)}
    assert set(after) == {*MEMBERS[:3], OPERATOR}
    assert Fraction(after[OPERATOR], sum(after.values())) == Fraction(5, 100)
    assert len(pool.ledger) == len(Pool(storage, pool.settings, random.Random(1)).ledger)


def test_a_ban_keeps_what_is_owed_and_can_be_taken_back():
    played = Played(Terms())
    played.share(0, 70)
    played.add(BanEntry(0, MEMBERS[0], True, "spam"))
    assert "spam" in played.book.ban_of(MEMBERS[0])
    assert played.round(1, 9) == {MEMBERS[0]: 70}
    played.add(BanEntry(0, MEMBERS[0], False, ""))
    assert played.book.ban_of(MEMBERS[0]) is None


@pytest.mark.parametrize(
    "terms",
    [Terms("solo"), Terms("pplns"), Terms(window=5), Terms(fee=5), Terms(operator=OPERATOR)],
)
def test_terms_that_do_not_fit_together(terms):
    with pytest.raises(ValueError, match=r"scheme|window|fee"):
        check_terms(terms)
