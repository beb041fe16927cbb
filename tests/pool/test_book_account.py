"""A member's own sums against the pool's, over the same ledger; and cheats that the member must notice."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.account import Account
from pool.inspection import Inspection
from pool.records import Credit, PaidEntry, RefutedEntry, RoundEntry, ShareEntry, Terms, TermsEntry, VoidEntry
from tests.pool.kit import NOW, inspection_of, submit
from tests.pool.test_ledger_restart import MEMBERS, live

LIMIT = 4


def account_of(pool, member, change=lambda number, entry: entry):
    numbers = sorted(pool.ledger.page(member, None, 10_000) + pool.ledger.page(b"", None, 10_000))
    account = Account(member, LIMIT)
    account.replay((number, change(number, pool.ledger.entry(number))) for number in numbers)
    return account


@settings(max_examples=40, deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
def test_the_members_sums_are_the_pools(seed):
    pool, _, _ = live(seed, 120)
    for member in MEMBERS:
        account = account_of(pool, member.address)
        assert account.problems == []
        book = pool.book
        assert (account.scored, account.paid) == (book.scored[member.address], book.paid[member.address])
        if member.address not in book.refuted:
            assert (account.earned, account.carried) == (book.earned[member.address], book.carried(member.address))
            assert account.reserved == book.reserved()[member.address]
        assert account.terms == book.terms


def entries(*found):
    return list(enumerate(found))


ME, OTHER = MEMBERS[0].address, MEMBERS[1].address


def cheats(number, entry, kind):
    if kind == "points" and isinstance(entry, ShareEntry) and entry.points:
        return dataclasses.replace(entry, points=entry.points - 1)
    if kind == "credit" and isinstance(entry, RoundEntry):
        credits = tuple(
            dataclasses.replace(credit, points=credit.points - (credit.address == ME)) for credit in entry.credits
        )
        return dataclasses.replace(entry, credits=credits)
    if kind == "line" and isinstance(entry, RoundEntry):
        return dataclasses.replace(entry, credits=tuple(c for c in entry.credits if c.address != ME))
    if kind == "fee" and isinstance(entry, RoundEntry):
        return dataclasses.replace(entry, terms=Terms(fee=5000, operator=OTHER))
    if kind == "debit" and isinstance(entry, PaidEntry):
        return dataclasses.replace(entry, debits=(*entry.debits, Credit(ME, 1)))
    if kind == "gift" and isinstance(entry, RoundEntry):
        return dataclasses.replace(entry, credits=(*entry.credits, Credit(MEMBERS[3].address, 1000)))
    if kind == "forged" and isinstance(entry, ShareEntry):
        return dataclasses.replace(entry, signed=dataclasses.replace(entry.signed, signature=bytes(64)))
    if kind == "window" and isinstance(entry, RoundEntry):
        return dataclasses.replace(entry, since=0)
    if kind == "forfeit" and isinstance(entry, RefutedEntry):
        return dataclasses.replace(entry, points=entry.points + 1)
    return entry


def worked():
    """A pool with a round that was paid."""
    pool, _, _ = live(21, 0)
    for number in range(2):
        lease = pool.lease(MEMBERS[number].address, b"w", NOW)
        submit(pool, lease, lease.genotypes[0], MEMBERS[number], 200)
    pool.table_paid(bytes(32), 1, pool.payouts_for(pool.candidates(1)[0], LIMIT))
    return pool


@pytest.mark.parametrize("kind", ["points", "credit", "line", "fee", "debit"])
def test_a_member_notices_when_the_ledger_gives_it_less(kind):
    pool = worked()
    assert account_of(pool, ME).problems == []
    assert account_of(pool, ME, lambda number, entry: cheats(number, entry, kind)).problems


@settings(max_examples=15, deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
def test_whoever_replays_the_whole_ledger_finds_it_in_order(seed):
    pool, _, _ = live(seed, 100)
    inspection = inspection_of(pool, LIMIT)
    assert inspection.problems == []
    assert (inspection.peaks.size, inspection.peaks.root()) == (len(pool.ledger), pool.ledger.root)


@pytest.mark.parametrize("kind", ["points", "credit", "line", "fee", "debit", "gift", "forged", "window", "forfeit"])
def test_no_entry_can_favour_somebody_else(kind):
    pool = worked()
    pool.refute(pool.candidates(1)[0].genotype, pool.candidates(1)[0].leaves, "why", NOW)
    inspection = Inspection(LIMIT)
    for number, entry in pool.ledger.replay():
        inspection.take(cheats(number, entry, kind))
    assert inspection.problems


def test_a_full_table_of_those_who_are_owed_more_is_no_cheat_and_one_with_less_is():
    terms = Terms()
    own = Account(ME, LIMIT)
    own.earned = 50
    more = tuple(Credit(bytes([i]) * 20, 60) for i in range(3))
    own.replay(entries(RoundEntry(1, more, terms, 0, 0), VoidEntry(1)))
    assert own.problems == []
    own.replay(entries(RoundEntry(2, more[:2], terms, 0, 0), VoidEntry(2)))
    assert len(own.problems) == 1
    own.replay(entries(RoundEntry(3, (*more[:2], Credit(OTHER, 40)), terms, 0, 0)))
    assert len(own.problems) == 2


def test_refutation_and_terms_are_taken_over():
    own = Account(ME, LIMIT)
    own.earned = 50
    own.replay(entries(RefutedEntry(0, bytes(32), ME, 50, "why"), TermsEntry(Terms(minimum=7), 0, 0)))
    own.replay(entries(RoundEntry(1, (), Terms(minimum=7), 0, 0)))
    assert (own.earned, own.refuted, own.terms.minimum, own.problems) == (0, "why", 7, [])
