"""Sealing to the owner of a key: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305.

What a member found is worth a seat to whoever commits it first, so nobody between member and pool may read it: no
proxy that ends TLS, and nobody where there is no TLS. A member seals one key for each connection to the pool, and what
it uploads with that key, as to open a seal of HPKE takes a multiple of the time.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from chain.errors import Invalid

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
OVERHEAD = 48
"""Bytes that sealing adds: the encapsulated key and the tag."""
TAG = 16
"""Bytes that sealing with the key of a connection adds."""
KEY = 32
"""Bytes of such a key."""


class BadSeal(Invalid):
    """Sealed to another key or for another connection, or changed on the way."""

    code = "bad_seal"


class SealingKey:
    """The pool's key pair. It lives in memory only: what was sealed to it cannot be read once the process has ended."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> SealingKey:
        """A new key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Inverse of `seal` with the same `info`. Raises BadSeal."""
        try:
            return SUITE.decrypt(sealed, self._private, info)
        except InvalidTag as error:
            raise BadSeal("it does not open: sealed to another key or for another connection, or changed") from error


def seal(data: bytes, public: bytes, info: bytes) -> bytes:
    """`data` for the owner of the X25519 key `public`; `info` is what it belongs to. Raises BadSeal for a bad key."""
    try:
        return SUITE.encrypt(data, X25519PublicKey.from_public_bytes(public), info)
    except ValueError as error:
        raise BadSeal("this is no key that one can seal to") from error


class UploadKey:
    """The key of one connection, for what its member uploads: ChaCha20-Poly1305, the upload's number as the nonce.

    Each number must be sealed once at most, so they grow. `kind` tells one kind of upload from another.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, data: bytes, number: int, kind: bytes) -> bytes:
        """`data` for whoever has the key."""
        return self._cipher.encrypt(number.to_bytes(12, "big"), data, kind)

    def open(self, sealed: bytes, number: int, kind: bytes) -> bytes:
        """Inverse of `seal` with the same number and kind. Raises BadSeal."""
        try:
            return self._cipher.decrypt(number.to_bytes(12, "big"), sealed, kind)
        except InvalidTag as error:
            raise BadSeal("it does not open: sealed with another key or for another place, or changed") from error
