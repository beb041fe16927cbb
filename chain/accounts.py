"""Accounts: a balance and a nonce. Every coin sits on some account, so supply is the sum of all balances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgpack

from chain.encoding import U64, Amount, Record
from chain.errors import NotApplicable
from chain.keys import system_address
from chain.state import Overlay, StateView

ACCOUNT = b"acct"
SUPPLY = b"supply"
IMMATURE = system_address("immature")  # coinbase outputs until they mature
ESCROW = system_address("escrow")  # bounties and deposits


@dataclass(frozen=True, slots=True)
class Account(Record):
    """What an address holds. `balance` in the smallest unit, `nonce` of the next transaction."""

    balance: Amount
    nonce: U64


_PACK: Callable[[tuple[int, int]], bytes] = msgpack.Packer().pack  # what Account.encode does
_UNPACK: Callable[..., tuple[int, int]] = msgpack.unpackb


def account(state: StateView, address: bytes) -> Account:
    """The account at `address`; empty where there is none."""
    return Account(*held(state, address))


def held(state: StateView, address: bytes) -> tuple[int, int]:
    """Balance and nonce of the account at `address`."""
    data = state.get(ACCOUNT + address)
    return (0, 0) if data is None else _UNPACK(data, use_list=False)  # as `write` packed it


def write(state: Overlay, address: bytes, balance: int, nonce: int) -> None:
    """Set the account at `address`."""
    state.put(ACCOUNT + address, _PACK((balance, nonce)))


def credit(state: Overlay, address: bytes, amount: int) -> None:
    """Add `amount` to a balance."""
    balance, nonce = held(state, address)
    write(state, address, balance + amount, nonce)


def debit(state: Overlay, address: bytes, amount: int) -> None:
    """Take `amount` from a balance; raises NotApplicable where it is not there."""
    balance, nonce = held(state, address)
    write(state, address, left(balance, amount), nonce)


def left(balance: int, amount: int) -> int:
    """`balance` without `amount`; raises NotApplicable where it is not there."""
    if balance < amount:
        raise NotApplicable(f"balance {balance} is less than {amount}", "insufficient_balance")
    return balance - amount


def move(state: Overlay, source: bytes, target: bytes, amount: int) -> None:
    """Move `amount` between two accounts; raises NotApplicable where it is not there."""
    debit(state, source, amount)
    credit(state, target, amount)


def supply(state: StateView) -> int:
    """Coins that exist, in the smallest unit."""
    data = state.get(SUPPLY)
    return 0 if data is None else int.from_bytes(data, "big")


def change_supply(state: Overlay, amount: int) -> None:
    """Record that `amount` coins were created (or destroyed, where negative)."""
    state.put(SUPPLY, (supply(state) + amount).to_bytes(16, "big"))
