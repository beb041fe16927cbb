"""Blocks and transactions as they cross the wire. Source: protocol L5 to L8."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import msgpack

from chain.encoding import (
    AMOUNT_MAX,
    U8,
    U64,
    U64_MAX,
    Address,
    Amount,
    Hash,
    PublicKey,
    Record,
    Signature,
    Size,
    quick_reader,
)
from chain.errors import BadTransaction
from chain.hashing import EMPTY, digest
from chain.keys import PrivateKey, address_of, verify
from chain.lazy import lazy
from chain.merkle import merkle_root

VERSION = 1
MAX_BODY = 65536
MAX_OUTPUTS = 256
MAX_COINBASE_OUTPUTS = 2040  # of 32 bytes at most, so that they fit into MAX_BODY
MAX_BLOCK = 1 << 20
MAX_BLOCK_TRANSACTIONS = 4096
MIN_TRANSACTION = 106  # bytes of the shortest encoding: keys, signature, and a byte or two for each other field

# The signature is the last field of what is signed, so the signed bytes are the record's own with zeros at the end.
_NO_SIGNATURE = bytes(64)


class Kind(IntEnum):
    """What a transaction does. The chain knows the first two; the others belong to the consensus rules."""

    COINBASE = 0
    TRANSFER = 1
    PUBLISH = 2
    COMMIT = 3
    REVEAL = 4
    BEACON = 5
    CHALLENGE = 6
    EVIDENCE = 7
    KEY = 8


@dataclass(frozen=True, slots=True)
class Output(Record):
    """A payment: `amount` of the smallest unit to `address`."""

    address: Address
    amount: Amount


@dataclass(frozen=True, slots=True)
class TransferBody(Record):
    """Body of a transfer."""

    outputs: Annotated[tuple[Output, ...], Size(1, MAX_OUTPUTS)]


Payment = tuple[bytes, int]
"""Address and amount of an output of a transfer: without an object for each, the body is read three times as fast."""

_PACK: Callable[[object], bytes] = msgpack.Packer().pack


def read_payments(body: bytes) -> tuple[Payment, ...]:
    """Address and amount of the outputs of `TransferBody.decode(body)`; raises BadEncoding where that does.

    Only what is plainly right is judged here; the decoder decides about the rest.
    """
    try:
        fields = msgpack.unpackb(body, use_list=False, max_array_len=MAX_OUTPUTS, max_ext_len=0, max_map_len=0)
        (outputs,) = fields
        plain = len(outputs) > 0 and _PACK(fields) == body
        for address, amount in outputs:
            plain = plain and type(address) is bytes and len(address) == 20
            plain = plain and type(amount) is int and 0 <= amount <= AMOUNT_MAX
    except Exception:  # as various as what hostile input does to the parser
        plain = False
    return outputs if plain else tuple((o.address, o.amount) for o in TransferBody.decode(body).outputs)


@dataclass(frozen=True, slots=True)
class CoinbaseBody(Record):
    """Body of a coinbase: what the block pays, exactly as the rules demand."""

    height: U64
    outputs: Annotated[tuple[Output, ...], Size(0, MAX_COINBASE_OUTPUTS)]


@dataclass(frozen=True, slots=True)
class Part(Record):
    """Outputs of a coinbase that were paid for one thing: `source` is its 32-byte id, empty for what cannot be lost."""

    source: Annotated[bytes, Size(0, 32)]
    outputs: Annotated[tuple[Output, ...], Size(0, MAX_COINBASE_OUTPUTS)]


@dataclass(frozen=True)
class Transaction(Record):
    """A signed transaction. `body` is the canonical encoding of the record that belongs to `kind`."""

    kind: U8
    sender: PublicKey
    nonce: U64
    fee: Amount
    body: Annotated[bytes, Size(0, MAX_BODY)]
    signature: Signature

    @classmethod
    def decode(cls, data: bytes, most: int = MAX_BLOCK) -> Transaction:
        """Parse canonical bytes, and keep them."""
        transaction = super().decode(data, most)
        transaction.__dict__["raw"] = data
        return transaction

    @lazy
    def raw(self) -> bytes:
        """Canonical bytes."""
        return self.encode()

    @lazy
    def id(self) -> bytes:
        """Hash of the canonical bytes."""
        return digest("ponas/transaction", self.raw)

    @lazy
    def payments(self) -> tuple[Payment, ...]:
        """What a transfer pays, in its order; raises BadEncoding where the body is none of a transfer."""
        return read_payments(self.body)

    @lazy
    def address(self) -> bytes:
        """Address of the sender."""
        return address_of(self.sender)

    def signed_message(self, network: bytes) -> bytes:
        """What the sender signs: the network id and everything but the signature."""
        return digest("ponas/sign-transaction", network, self.raw[:-64] + _NO_SIGNATURE)

    def check_signature(self, network: bytes) -> None:
        """Raise BadSignature unless the sender signed this for `network`. A coinbase carries no signature."""
        if self.kind == Kind.COINBASE:
            if self.sender != EMPTY or self.signature != bytes(64) or self.nonce or self.fee:
                raise BadTransaction("a coinbase has no sender, nonce, fee or signature")
            return
        verify(self.sender, self.signature, self.signed_message(network))


@quick_reader(Transaction)
def read_transaction(fields: list[Any]) -> Transaction | None:
    """The transaction that has these fields, with its canonical bytes; None where one is not within its limits."""
    kind, sender, nonce, fee, body, signature = fields
    if (
        type(kind) is type(nonce) is type(fee) is int
        and type(sender) is type(body) is type(signature) is bytes
        and 0 <= kind <= 255
        and 0 <= nonce <= U64_MAX
        and 0 <= fee <= AMOUNT_MAX
        and len(sender) == 32
        and len(body) <= MAX_BODY
        and len(signature) == 64
    ):
        transaction = object.__new__(Transaction)  # to initialise a frozen dataclass takes as long as all of this
        transaction.__dict__.update(
            kind=kind, sender=sender, nonce=nonce, fee=fee, body=body, signature=signature, raw=_PACK(fields)
        )
        return transaction
    return None


def sign_transaction(key: PrivateKey, network: bytes, kind: Kind, nonce: int, fee: int, body: Record) -> Transaction:
    """A transaction of `kind`, signed by `key` for `network` (32-byte network id)."""
    draft = Transaction(int(kind), key.public, nonce, fee, body.encode(), bytes(64))
    return dataclasses.replace(draft, signature=key.sign(draft.signed_message(network)))


def coinbase_transaction(height: int, outputs: tuple[Output, ...]) -> Transaction:
    """The coinbase of the block at `height`."""
    return Transaction(int(Kind.COINBASE), EMPTY, 0, 0, CoinbaseBody(height, outputs).encode(), bytes(64))


@dataclass(frozen=True)
class Header(Record):
    """Header of a block. `seat` is the 32-byte id of the seat that mints, `minter` its owner's public key."""

    version: U8
    height: U64
    slot: U64
    parent: Hash
    transactions_root: Hash
    state_root: Hash
    seat: Hash
    minter: PublicKey
    signature: Signature

    @lazy
    def raw(self) -> bytes:
        """Canonical bytes."""
        return self.encode()

    @lazy
    def id(self) -> bytes:
        """Block id: hash of the whole header."""
        return digest("ponas/block", self.raw)

    def signed_message(self, network: bytes) -> bytes:
        """What the minter signs."""
        return digest("ponas/sign-block", network, self.raw[:-64] + _NO_SIGNATURE)

    def signed(self, key: PrivateKey, network: bytes) -> Header:
        """This header with `key`'s signature."""
        return dataclasses.replace(self, signature=key.sign(self.signed_message(network)))

    def check_signature(self, network: bytes) -> None:
        """Raise BadSignature unless the minter signed this header for `network`."""
        verify(self.minter, self.signature, self.signed_message(network))


@dataclass(frozen=True)
class Block(Record):
    """A header and its transactions, the coinbase first."""

    header: Header
    transactions: Annotated[tuple[Transaction, ...], Size(0, MAX_BLOCK_TRANSACTIONS)]

    @classmethod
    def decode(cls, data: bytes, most: int = MAX_BLOCK) -> Block:
        """Parse canonical bytes, and keep them."""
        block = super().decode(data, most)
        block.__dict__["raw"] = data
        return block

    @lazy
    def raw(self) -> bytes:
        """Canonical bytes."""
        return self.encode()

    @property
    def id(self) -> bytes:
        """Block id."""
        return self.header.id


def transactions_root(transactions: tuple[Transaction, ...]) -> bytes:
    """Merkle root over the ids of `transactions`."""
    return merkle_root([transaction.id for transaction in transactions])
