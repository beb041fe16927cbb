"""The genesis: parameters, first balances, bootstrap seats and built-in tasks of a network, as a JSON file.

The hash of its canonical encoding is the network id. Source: protocol C1.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any

from chain.encoding import AMOUNT_MAX, Address, Amount, PublicKey, Record, Size
from chain.errors import BadEncoding
from chain.hashing import digest
from chain.keys import BadAddress, address_text, parse_address
from chain.parameters import LedgerParameters
from chain.types import MAX_BLOCK, MAX_COINBASE_OUTPUTS
from consensus.parameters import ConsensusParameters
from consensus.types import TaskSpec


class BadGenesis(ValueError):
    """A genesis file that cannot be used; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Allocation(Record):
    """A balance at genesis."""

    address: Address
    amount: Amount


@dataclass(frozen=True, slots=True)
class BuiltInTask(Record):
    """A task of the genesis; its first `epochs` competitions pay its bounty, later ones none."""

    spec: TaskSpec
    epochs: Amount


@dataclass(frozen=True, slots=True)
class Genesis(Record):
    """Everything the nodes of a network must agree on before the first block."""

    name: Annotated[str, Size(1, 64)]
    ledger: LedgerParameters
    consensus: ConsensusParameters
    allocations: Annotated[tuple[Allocation, ...], Size(0, 4096)]
    bootstrap: Annotated[tuple[PublicKey, ...], Size(1, 256)]
    tasks: Annotated[tuple[BuiltInTask, ...], Size(1, 64)]

    def check(self) -> None:
        """Raise ValueError where the numbers do not fit together."""
        self.consensus.check()
        if self.ledger.halving_blocks < 1 or self.ledger.coinbase_maturity < 1:
            raise ValueError("halving_blocks and coinbase_maturity must be at least 1")
        if self.ledger.max_block_bytes > MAX_BLOCK:
            raise ValueError(f"max_block_bytes must be at most {MAX_BLOCK}")
        bounties = sum(task.epochs * task.spec.bounty_per_epoch for task in self.tasks)
        first = sum(allocation.amount for allocation in self.allocations) + bounties
        if first + 2 * self.ledger.subsidy * self.ledger.halving_blocks > AMOUNT_MAX:
            raise ValueError(f"there could come to be more than {AMOUNT_MAX} units")
        tables = (self.consensus.seats + 1) * self.consensus.payout_entries
        deposits = self.consensus.commits_per_epoch + 1  # of commits, and of sealed splits to their publisher
        bonds = self.consensus.results_per_epoch + self.consensus.seats  # of one epoch, and of seats that end
        if tables + deposits + bonds > MAX_COINBASE_OUTPUTS:
            raise ValueError(f"a settling coinbase could need more than {MAX_COINBASE_OUTPUTS} outputs")
        if self.ledger.coinbase_maturity < self.consensus.challenge_blocks:
            raise ValueError(
                "coinbase_maturity must be at least challenge_blocks: rewards must be there to be taken back"
            )

    @property
    def network(self) -> bytes:
        """32-byte network id."""
        return digest("ponas/genesis", self.encode())

    def to_json(self) -> str:
        """Readable JSON: addresses as text, keys and hashes as hex."""
        return json.dumps(_plain(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Genesis:
        """Inverse of `to_json`; raises BadGenesis."""
        try:
            raw = json.loads(text)
            genesis = cls.decode(_rebuild(cls, raw).encode())
            genesis.check()
        except (ValueError, TypeError, KeyError, OverflowError, BadEncoding, BadAddress) as error:
            raise BadGenesis(f"genesis file: {error}") from error
        return genesis


_NESTED: dict[str, type[Record]] = {"ledger": LedgerParameters, "consensus": ConsensusParameters, "spec": TaskSpec}
_LISTS: dict[str, type[Record]] = {"allocations": Allocation, "tasks": BuiltInTask}


def _plain(record: Record) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, Record):
            value = _plain(value)
        elif isinstance(value, tuple):
            value = [_plain(item) if isinstance(item, Record) else item.hex() for item in value]
        elif isinstance(value, bytes):
            value = address_text(value) if field.name == "address" else value.hex()
        plain[field.name] = value
    return plain


def _rebuild(cls: type[Record], raw: Any) -> Record:
    if not isinstance(raw, dict):
        raise BadGenesis(f"{cls.__name__} must be an object")
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if raw.keys() != names:
        wrong = sorted(raw.keys() ^ names)
        raise BadGenesis(f"{cls.__name__}: missing or unknown {', '.join(wrong)}")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if name in _NESTED:
            value = _rebuild(_NESTED[name], value)
        elif name in _LISTS:
            value = tuple(_rebuild(_LISTS[name], item) for item in value)
        elif name == "bootstrap":
            value = tuple(bytes.fromhex(item) for item in value)
        elif name == "address":
            value = parse_address(value)
        elif name == "dataset":
            value = bytes.fromhex(value)
        values[name] = value
    return cls(**values)
