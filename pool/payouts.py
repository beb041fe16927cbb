"""Payout tables: how credits, the finder's part and the operator's fee become the lines of a reveal."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.split import split
from consensus.types import Payout
from pool.records import FEE_UNIT, Credit, Terms

FINDER_PARTS = 8
"""One part in so many of a result's reward, after the fee, goes to its finder. Source: protocol section 9."""
WEIGHT_MAX = 2**32 - 1


def lines(limit: int, terms: Terms) -> int:
    """Members that a table of at most `limit` lines can credit beside its finder and its operator."""
    return max(1, limit - 1 - bool(terms.fee))


def table(credits: Sequence[Credit], finder: bytes | None, limit: int, terms: Terms) -> tuple[Payout, ...]:
    """Payout table: 7/8 by points and 1/8 to the finder, all by points where there is no finder; less the fee.

    At most `limit` lines. Where no member has points the finder takes all; empty where there is no finder either.
    """
    weights = {credit.address: credit.points for credit in credits[:limit]}
    total = sum(weights.values())
    if not total:
        weights, total = ({} if finder is None else {finder: 1}), 1
    elif finder is not None and (finder in weights or len(weights) < limit):
        weights = {address: points * (FINDER_PARTS - 1) for address, points in weights.items()}
        weights[finder] = weights.get(finder, 0) + total
        total *= FINDER_PARTS
    if terms.fee and weights and (terms.operator in weights or len(weights) < limit):
        weights = {address: weight * (FEE_UNIT - terms.fee) for address, weight in weights.items()}
        weights[terms.operator] = weights.get(terms.operator, 0) + total * terms.fee
    if max(weights.values(), default=0) > WEIGHT_MAX:
        scaled = split(WEIGHT_MAX, list(weights.values()))
        weights = {address: max(1, weight) for address, weight in zip(weights, scaled, strict=True)}
    return tuple(Payout(address, weight) for address, weight in weights.items())
