"""Keys of a node's database. Numbers are big-endian and of fixed width, so byte order is numeric order.

| key | value |
|---|---|
| `m` name | meta: `schema` (u32), `network` (32 bytes), `tip` (block id) |
| `b` id | canonical bytes of a block of the best chain |
| `e` id | canonical bytes of its header |
| `h` height u64 | id of the block of the best chain at that height |
| `u` height u64 | undo record: what every state key that the block changed held before (MessagePack) |
| `s` key | value of the state at the tip |
| `t` place | node of the state tree at the tip (see chain.tree) |
| `x` transaction id | height u64, index u32 |
| `a` address, ~height u64, ~index u32 | empty; complements, so that iteration gives the newest first |
| `f` key | facts about artifacts |
| `n` length u8, name, key | a namespace of another component |
"""

from __future__ import annotations

from chain.errors import BadEncoding
from chain.types import Block, CoinbaseBody, Kind, Transaction

SCHEMA = 1
META = b"m"
BLOCK = b"b"
HEADER = b"e"
HEIGHT = b"h"
UNDO = b"u"
STATE = b"s"
NODE = b"t"
TRANSACTION = b"x"
HISTORY = b"a"
FACT = b"f"
NAMESPACE = b"n"

META_SCHEMA = META + b"schema"
META_NETWORK = META + b"network"
META_TIP = META + b"tip"

_U64 = 2**64 - 1
_U32 = 2**32 - 1


def height_key(height: int) -> bytes:
    """Key of the canonical id at `height`."""
    return HEIGHT + height.to_bytes(8, "big")


def undo_key(height: int) -> bytes:
    """Key of the undo record of the canonical block at `height`."""
    return UNDO + height.to_bytes(8, "big")


def parse_history_key(key: bytes) -> tuple[int, int]:
    """Height and index of an entry of the address index."""
    return _U64 - int.from_bytes(key[-12:-4], "big"), _U32 - int.from_bytes(key[-4:], "big")


def parse_position(value: bytes) -> tuple[int, int]:
    """Height and index from a value of the transaction index."""
    return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big")


def namespace_prefix(name: bytes) -> bytes:
    """Prefix of the keys of namespace `name`."""
    if not 1 <= len(name) <= 255:
        raise ValueError("the name of a namespace has 1 to 255 bytes")
    return NAMESPACE + bytes([len(name)]) + name


def addresses_of(transaction: Transaction) -> set[bytes]:
    """Addresses in whose history a transaction stands."""
    try:
        if transaction.kind == Kind.COINBASE:
            return {output.address for output in CoinbaseBody.decode(transaction.body).outputs}
        if transaction.kind == Kind.TRANSFER:
            return {transaction.address, *(output.address for output in transaction.transfer.outputs)}
    except BadEncoding:  # a body that no rule accepts is in no canonical block; indexing must not be what fails
        return set()
    return {transaction.address}


def index_keys(block: Block) -> list[tuple[bytes, bytes]]:
    """Entries of the transaction and address indexes that a canonical block has."""
    height = block.header.height
    complement, position = (_U64 - height).to_bytes(8, "big"), height.to_bytes(8, "big")
    entries: list[tuple[bytes, bytes]] = []
    for index, transaction in enumerate(block.transactions):
        entries.append((TRANSACTION + transaction.id, position + index.to_bytes(4, "big")))
        place = complement + (_U32 - index).to_bytes(4, "big")
        entries += [(HISTORY + address + place, b"") for address in addresses_of(transaction)]
    return entries
