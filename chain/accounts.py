"""Accounts: a balance and a nonce. Every coin sits on some account, so supply is the sum of all balances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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


_NONE = Account(0, 0)

# What was just written is read again soon, and a look-up costs a tenth of decoding.
_decode = lru_cache(maxsize=1 << 16)(Account.decode)


def account(state: StateView, address: bytes) -> Account:
    """The account at `address`; empty where there is none."""
    data = state.get(ACCOUNT + address)
    return _NONE if data is None else _decode(data)


def credit(state: Overlay, address: bytes, amount: int) -> None:
    """Add `amount` to a balance."""
    old = account(state, address)
    state.put(ACCOUNT + address, Account(old.balance + amount, old.nonce).encode())


def debit(state: Overlay, address: bytes, amount: int) -> None:
    """Take `amount` from a balance; raises NotApplicable where it is not there."""
    old = account(state, address)
    if old.balance < amount:
        raise NotApplicable(f"balance {old.balance} is less than {amount}", "insufficient_balance")
    state.put(ACCOUNT + address, Account(old.balance - amount, old.nonce).encode())


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
