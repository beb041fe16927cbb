"""Keys of a node's database. Numbers are big-endian and of fixed width, so byte order is numeric order.

| key | value |
|---|---|
| `m` name | meta: `schema` u32, `network` 32 bytes, `tip` block id, `base` u64, `indexes` u32 (see below) |
| `b` id | canonical bytes of a block of the best chain |
| `e` id | canonical bytes of its header |
| `h` height u64 | id of the block of the best chain at that height |
| `u` height u64 | undo record: what every state key that the block changed held before (MessagePack) |
| `s` key | value of the state at the tip |
| `t` path | node of the state tree at the tip; the path to it in hexadecimal digits (see chain.tree) |
| `x` transaction id | height u64, index u32 |
| `a` address, ~height u64, ~index u32 | empty: a transaction that names the address |
| `o` address, ~height u64 | empty: a block that a seat of this owner minted |
| `i` name | empty: an entry of the rules' index over the state (`Rules.index`), such as the results of a task |
| `n` length u8, name, key | a namespace of another component |

Ids are 32 bytes, addresses 20. `~` is the complement, so that iteration gives the newest first.

`base` is the height at which the stored blocks begin; it is absent where that is genesis, and set where the state was
restored from a snapshot (genesis itself is always there). `indexes` says of which form the indexes `x`, `a`, `o` and
`i` are; where it is absent or another, they are rebuilt on opening. A database of a lower `schema` is migrated on
opening (`chain.migration`), one of a higher is refused.
"""

from __future__ import annotations

from chain.errors import BadEncoding
from chain.keys import address_of
from chain.types import Block, CoinbaseBody, Kind, Transaction

SCHEMA = 2
INDEXES = 1
META = b"m"
BLOCK = b"b"
HEADER = b"e"
HEIGHT = b"h"
UNDO = b"u"
STATE = b"s"
NODE = b"t"
TRANSACTION = b"x"
HISTORY = b"a"
OWNER = b"o"
LISTED = b"i"
NAMESPACE = b"n"

META_SCHEMA = META + b"schema"
META_NETWORK = META + b"network"
META_TIP = META + b"tip"
META_BASE = META + b"base"
META_INDEXES = META + b"indexes"

INDEX_PREFIXES = (TRANSACTION, HISTORY, OWNER, LISTED)

_U64 = 2**64 - 1
_U32 = 2**32 - 1


def height_key(height: int) -> bytes:
    """Key of the canonical id at `height`."""
    return HEIGHT + height.to_bytes(8, "big")


def undo_key(height: int) -> bytes:
    """Key of the undo record of the canonical block at `height`."""
    return UNDO + height.to_bytes(8, "big")


def place(height: int, index: int) -> bytes:
    """Twelve bytes that sort the transactions of an address, the newest first."""
    return complement(height) + (_U32 - index).to_bytes(4, "big")


def parse_history_key(key: bytes) -> tuple[int, int]:
    """Height and index of an entry of the address index."""
    return _U64 - int.from_bytes(key[-12:-4], "big"), _U32 - int.from_bytes(key[-4:], "big")


def parse_owner_key(key: bytes) -> int:
    """Height of an entry of the index of blocks by owner."""
    return _U64 - int.from_bytes(key[-8:], "big")


def complement(height: int) -> bytes:
    """Eight bytes that sort the higher heights first."""
    return (_U64 - height).to_bytes(8, "big")


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
            return {transaction.address, *[address for address, _ in transaction.payments]}
    except BadEncoding:  # a body that no rule accepts is in no canonical block; indexing must not be what fails
        return set()
    return {transaction.address}


def index_keys(block: Block) -> list[tuple[bytes, bytes]]:
    """Entries of the indexes of transactions, addresses and owners that a canonical block has."""
    height = block.header.height
    entries: list[tuple[bytes, bytes]] = []
    if height:
        entries.append((OWNER + address_of(block.header.minter) + complement(height), b""))
    oldest_first, newest_first = height.to_bytes(8, "big"), complement(height)
    for index, transaction in enumerate(block.transactions):
        entries.append((TRANSACTION + transaction.id, oldest_first + index.to_bytes(4, "big")))
        at = newest_first + (_U32 - index).to_bytes(4, "big")
        for address in addresses_of(transaction):
            entries.append((HISTORY + address + at, b""))
    return entries
