"""Which results of a settled competition a node audits. Pure; nobody else can foresee it, for it takes a secret.

A result is drawn by the hash of its id with the secret, so a node that starts again draws the same ones, and where one
was revoked, its heir is drawn among the others anew. Source: protocol C12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.hashing import digest
from consensus.settle import rank
from consensus.types import ResultRecord


@dataclass(frozen=True, slots=True)
class Choice:
    """`due` are to be audited in any case, `spare` where there is time; both in order."""

    due: tuple[ResultRecord, ...]
    spare: tuple[ResultRecord, ...]


def choose(
    results: Sequence[ResultRecord], least_correct: int, seats: int, rate: int, owner: bytes, secret: bytes
) -> Choice:
    """Choose among the results of one competition. `owner`'s own are trusted.

    Due is what keeps one of its own from counting, though it is of the same architecture and trained to something else;
    then, of those that hold `seats`, what stands above one of its own, and `rate` of all, in the order of the draw: so
    nodes that cannot audit all in time begin with different ones. Others gain nothing by being false.
    """
    mine = [result for result in results if result.owner == owner]
    before = [result for result in results if any(_stands_before(result, own) for own in mine)]
    ranking = rank(list(results), least_correct)
    own = [place for place, result in enumerate(ranking) if result.owner == owner]
    lowest = own[-1] if own else 0
    seated = [result for result in ranking[:seats] if result.owner != owner]
    above = ranking[: min(seats, lowest)]
    drawn = sorted(seated, key=lambda result: digest("ponas/audit", secret, result.id))
    due = dict.fromkeys([*before, *(result for place, result in enumerate(drawn) if place < rate or result in above)])
    return Choice(tuple(due), tuple(result for result in drawn if result not in due))


def _stands_before(other: ResultRecord, own: ResultRecord) -> bool:
    """Whether one of two results that cannot both be true keeps the other from counting."""
    rivals = other.owner != own.owner and not other.revoked and other.canonical == own.canonical
    return rivals and other.commit_order < own.commit_order and other.leaves != own.leaves
