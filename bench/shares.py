"""Shares of trainings that nobody ran, handed in to a pool that does not evaluate them."""

from __future__ import annotations

from chain.hashing import digest
from chain.keys import PrivateKey
from pool.pool import Pool
from pool.records import Share, sign_share

NETWORK = digest("bench", b"network")


def hand_in(pool: Pool, key: PrivateKey, share: Share, model: bytes, now: float) -> None:
    """The member with `key` hands in a share, and the pool measures what it claims. Raises ShareRefused."""
    signed = sign_share(share, key)
    if pool.check_share(key.public, signed, model, now) is None:
        pool.accept_share(signed, share.validation_correct, now)
