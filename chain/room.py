"""How much a mempool holds."""

from __future__ import annotations

from dataclasses import dataclass

from chain.waiting import Waiting

_RESERVED_PART = 8  # one eighth of the pool is for protocol transactions alone


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """How much a pool holds; `size` in bytes.

    `nonce_gap`: how far ahead of the sender's next nonce a transaction may be. `idle_blocks`: for how many blocks one
    may be in the pool without being ready. `age_blocks`: for how many it may be there at all.
    """

    count: int = 65_536
    size: int = 32 << 20
    per_sender: int = 64
    nonce_gap: int = 16
    idle_blocks: int = 6
    age_blocks: int = 1440


def is_full(
    waiting: Waiting, limits: MempoolLimits, count: int = 0, size: int = 0, *, is_protocol: bool = False, spare: int = 0
) -> bool:
    """Whether there is too much in `waiting`, were `count` transactions of `size` bytes added.

    An eighth is kept for protocol transactions. With `spare`, one part in so many must be free.
    """
    most, most_size = limits.count, limits.size
    if spare:
        most, most_size = most - most // spare, most_size - most_size // spare
    if len(waiting) + count > most or waiting.size + size > most_size:
        return True
    if is_protocol:
        return False
    ordinary, ordinary_size = len(waiting) - waiting.protocol_count, waiting.size - waiting.protocol_size
    return (
        ordinary + count > most - most // _RESERVED_PART
        or ordinary_size + size > most_size - most_size // _RESERVED_PART
    )
