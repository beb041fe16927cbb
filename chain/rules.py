"""What the ledger asks of the consensus rules. `consensus` implements it; the chain knows no more of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from chain.parameters import LedgerParameters
from chain.state import Overlay, StateView
from chain.types import Header, Output, Part, Transaction


@dataclass(frozen=True, slots=True)
class BlockContext:
    """Where a block stands, as the rules see it while they apply its transactions."""

    height: int
    slot: int
    parent: bytes
    seat: bytes


@dataclass(frozen=True, slots=True)
class CoinbasePlan:
    """What a coinbase must pay. `released` came out of escrow; `minted` is what the supply grows by, which is less than
    nothing where fees are burned."""

    parts: tuple[Part, ...]
    minted: int
    released: int

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All outputs, in their order."""
        return tuple(output for part in self.parts for output in part.outputs)


@dataclass(frozen=True, slots=True)
class StateIndex:
    """What the database lists beside the state: for every entry whose key starts with `prefix`, the names it gives.

    The list is a function of the state alone, so it follows every reorganisation and can always be rebuilt.
    """

    prefix: bytes
    names: Callable[[bytes, bytes], tuple[bytes, ...]]


class Rules(Protocol):
    """The consensus rules as pure functions of a state. All raise `chain.errors.Invalid`."""

    network: bytes
    parameters: LedgerParameters
    index: StateIndex | None

    def genesis(self, state: Overlay) -> Header:
        """Write the genesis state; return the genesis header, its state root still empty."""
        ...

    def check_header(self, state: StateView, parent: Header, header: Header) -> None:
        """Check slot, seat and minter of a header against the state after its parent."""
        ...

    def begin_block(self, state: Overlay, context: BlockContext) -> None:
        """Carry out what time alone brings about, before the block's transactions."""
        ...

    def minimum_fee(self, transaction: Transaction) -> int:
        """Least fee of a transaction."""
        ...

    def apply(self, state: Overlay, context: BlockContext, transaction: Transaction, index: int) -> tuple[object, ...]:
        """Apply a transaction other than coinbase and transfer, fee and nonce already taken.

        Returns the facts that are missing to judge it; where there are any, the caller must not keep the state.
        """
        ...

    def coinbase(self, state: Overlay, context: BlockContext, fees: int) -> CoinbasePlan:
        """What the block's coinbase must pay, after all its other transactions; takes `released` out of escrow."""
        ...
