"""Amounts as people write them. The chain counts in the smallest unit only; 1 PONAS is 10^8 of it."""

from __future__ import annotations

import re

from chain.encoding import AMOUNT_MAX

SYMBOL = "PONAS"
DECIMALS = 8
PONAS = 10**DECIMALS

_AMOUNT = re.compile(r"(\d{1,20})(?:\.(\d{1,30}))?", re.ASCII)


class BadAmount(ValueError):
    """Text that is not an amount; the message says why."""


def format_amount(amount: int) -> str:
    """`amount` of the smallest unit as text in PONAS, without needless zeros: 150000000 is "1.5 PONAS"."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), PONAS)
    decimals = f".{rest:0{DECIMALS}d}".rstrip("0") if rest else ""
    return f"{sign}{whole}{decimals} {SYMBOL}"


def parse_amount(text: str) -> int:
    """The smallest units of an amount written in PONAS, such as "1.5" or "1.5 PONAS"; raises BadAmount."""
    bare = text.strip().removesuffix(SYMBOL).strip()
    match = _AMOUNT.fullmatch(bare)
    if match is None:
        raise BadAmount(f"{text.strip()[:40]!r} is not an amount: write it like 1.5, in {SYMBOL}")
    decimals: str = (match[2] or "").rstrip("0")
    if len(decimals) > DECIMALS:
        raise BadAmount(f"an amount has at most {DECIMALS} decimal places, this has {len(decimals)}")
    amount: int = int(match[1]) * PONAS + int(decimals.ljust(DECIMALS, "0"))
    if amount > AMOUNT_MAX:
        raise BadAmount(f"the largest amount is {format_amount(AMOUNT_MAX)}")
    return amount
