"""Signed heads: the pool's word on the size and the root of its ledger. Two that contradict prove a fraud."""

from __future__ import annotations

from dataclasses import dataclass

from chain.encoding import U64, Hash, PublicKey, Record, Signature
from chain.hashing import digest
from chain.keys import PrivateKey, verify


@dataclass(frozen=True, slots=True)
class SignedHead(Record):
    """The ledger of `pool` had `size` entries under `root` at `at`, Unix milliseconds."""

    network: Hash
    pool: PublicKey
    size: U64
    root: Hash
    at: U64
    signature: Signature

    def verify(self) -> None:
        """Raise BadSignature unless the pool signed this."""
        verify(self.pool, self.signature, _digest(self.network, self.pool, self.size, self.root, self.at))

    def contradicts(self, other: SignedHead) -> bool:
        """Whether no ledger can have both heads, whatever lies between."""
        same = (self.network, self.pool, self.size) == (other.network, other.pool, other.size)
        return same and self.root != other.root


def sign_head(key: PrivateKey, network: bytes, size: int, root: bytes, at: int) -> SignedHead:
    """The head signed by `key`."""
    signature = key.sign(_digest(network, key.public, size, root, at))
    return SignedHead(network, key.public, size, root, at, signature)


def _digest(network: bytes, pool: bytes, size: int, root: bytes, at: int) -> bytes:
    return digest("ponas/pool-head", network, pool, size.to_bytes(8, "big"), root, at.to_bytes(8, "big"))
