"""Coins that a coinbase paid and that have not matured: by height, in parts that name what they were paid for.

Until they mature they are the bond of their source: where it turns out to be false, they can be taken back.
Source: protocol L10, L13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from chain import accounts
from chain.encoding import Record, Size
from chain.state import Overlay, StateView
from chain.types import MAX_COINBASE_OUTPUTS, Output, Part

_KEY = b"imma"
_MOST = 1 << 18  # bytes: as many outputs as there may be, each in a part of its own


@dataclass(frozen=True, slots=True)
class _Parts(Record):
    parts: Annotated[tuple[Part, ...], Size(0, MAX_COINBASE_OUTPUTS)]


def book(state: Overlay, height: int, parts: tuple[Part, ...]) -> None:
    """Record what the coinbase at `height` pays; its coins then lie on the account for immature ones."""
    accounts.credit(state, accounts.IMMATURE, sum(output.amount for part in parts for output in part.outputs))
    state.put(_key(height), _Parts(parts).encode())


def mature(state: Overlay, height: int) -> None:
    """Pay out what is left of the coinbase at `height`."""
    if state.get(_key(height)) is None:
        return
    for part in _parts(state, height):
        for output in part.outputs:
            accounts.move(state, accounts.IMMATURE, output.address, output.amount)
    state.delete(_key(height))


def outputs_at(state: StateView, height: int) -> tuple[Output, ...]:
    """Outputs of the coinbase at `height` that have not matured, nor been taken back."""
    return tuple(output for part in _parts(state, height) for output in part.outputs)


def take_back(state: Overlay, heights: range, source: bytes) -> int:
    """Cancel what is still immature of `source`, of the coinbases at `heights`; returns the sum, now on no account."""
    taken = 0
    for height in heights:
        parts = _parts(state, height)
        kept = tuple(part for part in parts if part.source != source)
        if len(kept) < len(parts):
            taken += sum(output.amount for part in parts if part.source == source for output in part.outputs)
            state.put(_key(height), _Parts(kept).encode())
    if taken:
        accounts.debit(state, accounts.IMMATURE, taken)
    return taken


def _parts(state: StateView, height: int) -> tuple[Part, ...]:
    data = state.get(_key(height))
    return () if data is None else _Parts.decode(data, _MOST).parts


def _key(height: int) -> bytes:
    return _KEY + height.to_bytes(8, "big")
