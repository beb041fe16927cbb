"""Which results a node audits: private, the same after a restart, heirs included."""

from __future__ import annotations

import dataclasses
import random

import pytest

from consensus.types import Payout, ResultRecord
from ponas_node.audit_choice import choose

SEATS = 4
OWN = bytes([1]) * 32


def result(n: int, correct: int, owner: int = 2, revoked: bool = False) -> ResultRecord:
    name = n.to_bytes(32, "big")
    return ResultRecord(
        id=name, epoch=0, task=bytes(32), owner=bytes([owner]) * 32, commit=bytes(32), commit_height=1, commit_index=1,
        leaf_index=n, genotype=name, canonical=name, leaves=(name,) * 3, model_bytes=1, parameters=1, macs=1,
        correct=correct, total=100, payouts=(Payout(bytes(20), 1),), height=1, reward=0, seated=False, bond=0,
        revoked=revoked,
    )  # fmt: skip


def names(found: tuple[ResultRecord, ...]) -> list[int]:
    return [int.from_bytes(each.id, "big") for each in found]


def draw(results: list[ResultRecord], rate: int, secret: bytes = b"s") -> tuple[list[int], list[int]]:
    choice = choose(results, 50, SEATS, rate, OWN, secret)
    return names(choice.due), names(choice.spare)


def test_only_seats_of_others_are_drawn_and_every_one_of_them_at_times() -> None:
    results = [result(n, 90 - n) for n in range(6)] + [result(6, 99, owner=1), result(7, 40)]
    drawn = set()
    for secret in range(100):
        due, spare = draw(results, 1, secret.to_bytes(4, "big"))
        assert len(due) == 1 and sorted(due + spare) == [0, 1, 2]  # 6 is its own, and leaves three seats to others
        drawn |= set(due)
    assert drawn == {0, 1, 2}
    assert draw(results, 0)[0] == []


def test_what_stands_above_its_own_is_due() -> None:
    below = [result(n, 90 - n) for n in range(6)] + [result(6, 70, owner=1)]
    assert sorted(draw(below, 0)[0]) == [0, 1, 2, 3]  # of those above, the ones with seats
    between = [result(n, 90 - n) for n in range(6)] + [result(6, 88, owner=1), result(7, 10, owner=1)]
    assert sorted(draw(between, 0)[0]) == [0, 1, 2]
    best = [result(n, 90 - n) for n in range(6)] + [result(6, 95, owner=1)]
    assert draw(best, 0)[0] == []


def test_nodes_begin_with_different_ones() -> None:
    """Else each would audit the best first, and none the last, where there is not time for all."""
    below = [result(n, 90 - n) for n in range(6)] + [result(6, 70, owner=1)]
    first = {draw(below, 0, secret.to_bytes(4, "big"))[0][0] for secret in range(100)}
    assert first == {0, 1, 2, 3}
    assert draw(below, 0) == draw(below, 0)


def test_what_keeps_its_own_from_counting_is_due() -> None:
    """Of one architecture the earliest seal stands: a forged one, sealed first, keeps true copies out."""
    own = dataclasses.replace(result(6, 95, owner=1), canonical=b"a")
    squatter = dataclasses.replace(result(1, 20), canonical=b"a")
    assert draw([squatter, own], 0)[0] == [1]
    assert draw([dataclasses.replace(squatter, leaves=own.leaves), own], 0)[0] == []
    assert draw([dataclasses.replace(squatter, revoked=True), own], 0)[0] == []
    assert draw([dataclasses.replace(squatter, commit_height=2), own], 0)[0] == []
    assert draw([dataclasses.replace(squatter, canonical=b"b"), own], 0)[0] == []


def test_where_one_is_revoked_its_heir_may_be_drawn() -> None:
    """Whoever forges more than there are seats is caught one by one: those drawn are never left out for good."""
    rng = random.Random(5)
    results = [result(n, 90 - n) for n in range(12)]
    forged = set(range(12)) - {3, 8}
    for _ in range(20):
        found: set[int] = set()
        secret = rng.randbytes(8)
        while True:
            left = [dataclasses.replace(each, revoked=True) if n in found else each for n, each in enumerate(results)]
            due, _ = draw(left, SEATS, secret)
            caught = forged & set(due)
            if not caught:
                break
            found |= caught
        assert found == forged


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_the_draw_stays_the_same(rate: int) -> None:
    results = [result(n, 90 - n) for n in range(9)]
    shuffled = random.Random(rate).sample(results, 9)
    assert draw(results, rate) == draw(shuffled, rate)
    assert len(draw(results, rate)[0]) == rate
