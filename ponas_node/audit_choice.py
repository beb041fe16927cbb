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
    """Choose among the results that hold the `seats`: what stands above one of `owner`'s own, and `rate` of the others.

    `owner`'s own are trusted. Results below the seats gain nothing by being false.
    """
    ranking = rank(list(results), least_correct)
    own = [place for place, result in enumerate(ranking) if result.owner == owner]
    lowest = own[-1] if own else 0
    seated = [result for result in ranking[:seats] if result.owner != owner]
    above = [result for place, result in enumerate(ranking[: min(seats, lowest)]) if result.owner != owner]
    drawn = sorted(seated, key=lambda result: digest("ponas/audit", secret, result.id))
    due = dict.fromkeys([*above, *drawn[:rate]])
    return Choice(tuple(due), tuple(result for result in drawn if result not in due))
