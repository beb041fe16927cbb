"""The choices of whoever runs a pool: a file in TOML, overridden by options of the command line."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.keys import BadAddress, parse_address
from pool.records import FEE_UNIT, Terms
from pool.schemes import SCHEMES, check_terms

TERMS = ("payout_scheme", "window_points", "fee_bps", "fee_address", "minimum_points")
"""The options that make up the payout terms."""


class BadPoolConfig(Exception):
    """Choices that cannot be; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Points are correct validation predictions above the baseline; `fee_bps` are 1/10,000 of every payout table.

    `fee_address` is the text of an address; empty: that of the pool's wallet. `state_megabytes` is the size of the
    largest state of a training that is taken, `states_megabytes` the room for all of them, both in MiB.
    """

    payout_scheme: str = SCHEMES[0]
    window_points: int = 0
    fee_bps: int = 0
    fee_address: str = ""
    minimum_points: int = 1
    lease_size: int = 1
    lease_seconds: float = 1800.0
    snapshot_entries: int = 10_000
    state_megabytes: int = 16
    states_megabytes: int = 1024

    def terms(self, wallet: bytes) -> Terms:
        """The payout terms; the fee goes to `wallet`, an address, unless another one is named. Raises BadPoolConfig."""
        operator = bytes(20)
        try:
            if self.fee_bps:
                operator = parse_address(self.fee_address) if self.fee_address else wallet
            terms = Terms(self.payout_scheme, self.window_points, self.fee_bps, operator, self.minimum_points)
            check_terms(terms)
        except (BadAddress, ValueError) as error:
            raise BadPoolConfig(f"The pool's payout options do not fit: {error}.") from error
        return terms


_LEAST_MOST = {
    "window_points": (0, 2**40),
    "fee_bps": (0, FEE_UNIT // 2),
    "minimum_points": (1, 2**40),
    "lease_size": (1, 64),
    "lease_seconds": (10, 10**7),
    "snapshot_entries": (1, 10**9),
    "state_megabytes": (0, 64),
    "states_megabytes": (1, 10**6),
}


def pool_options(file: Path | None, given: dict[str, Any]) -> PoolOptions:
    """Defaults, overridden by `file`, overridden by what is `given` and not None. Raises BadPoolConfig, OSError."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadPoolConfig(f"{file} is not TOML: {error}. Mend that place.") from error
    values |= {name: value for name, value in given.items() if value is not None}
    fields = {field.name: field for field in dataclasses.fields(PoolOptions)}
    for name, value in values.items():
        if name not in fields:
            raise BadPoolConfig(f"A pool has no option {name!r}; it has {', '.join(fields)}.")
        _check(name, value, fields[name].default)
    options = PoolOptions(**values)
    options.terms(b"\x01" * 20)
    return options


def _check(name: str, value: Any, default: Any) -> None:
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise BadPoolConfig(f"{name} must be {'text' if isinstance(default, str) else 'a number'}, not {value!r}.")
    least, most = _LEAST_MOST.get(name, (None, None))
    if least is not None and most is not None and not least <= value <= most:
        raise BadPoolConfig(f"{name} must be from {least} to {most}, not {value}.")
