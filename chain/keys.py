"""Ed25519 keys and addresses with a checksum. Source: protocol L3."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chain.errors import BadSignature
from chain.hashing import digest

PREFIX = "pn1"
_CHECKSUM = 5
_BATCH = 64  # signatures that are worth a thread


class BadAddress(ValueError):
    """Text that is not an address; the message says why."""


class PrivateKey:
    """An Ed25519 private key. `seed` is its 32 secret bytes."""

    __slots__ = ("_key", "address", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise ValueError("an Ed25519 seed has 32 bytes")
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()
        self.address = address_of(self.public)

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64-byte signature over `message`."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"PrivateKey({address_text(self.address)})"


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise BadSignature unless `signature` is `public`'s over `message`."""
    verify_each(((public, signature, message),))


def verify_all(items: Sequence[tuple[bytes, bytes, bytes]]) -> None:
    """Raise BadSignature unless every (public key, signature, message) verifies.

    The library releases the interpreter lock while it verifies, so threads share the work over the cores.
    """
    workers = min(os.cpu_count() or 1, len(items) // _BATCH)
    if workers < 2:
        verify_each(items)
        return
    parts = [items[i::workers] for i in range(workers)]
    # The pool must not outlive the call: a process that forks workers must have no threads behind its back.
    with ThreadPoolExecutor(workers - 1) as pool:
        waiting = [pool.submit(verify_each, part) for part in parts[1:]]
        verify_each(parts[0])
        for future in waiting:
            future.result()


def verify_each(items: Iterable[tuple[bytes, bytes, bytes]]) -> None:
    """What `verify_all` does, in this thread alone."""
    try:
        for public, signature, message in items:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("signature does not verify") from error


@lru_cache(maxsize=65536)
def address_of(public: bytes) -> bytes:
    """20-byte address of a public key."""
    return digest("ponas/address", public)[:20]


def system_address(name: str) -> bytes:
    """Address of an account that no key controls (escrow and the like)."""
    return digest("ponas/system", name.encode())[:20]


def address_text(address: bytes) -> str:
    """`pn1` and 40 characters of base32: the address and a 5-byte checksum."""
    return PREFIX + base64.b32encode(address + _checksum(address)).decode().lower()


def parse_address(text: str) -> bytes:
    """Inverse of `address_text`; raises BadAddress."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise BadAddress(f"an address starts with {PREFIX!r}")
    if len(text) != len(PREFIX) + 40:
        raise BadAddress(f"an address has {len(PREFIX) + 40} characters, this has {len(text)}")
    try:
        raw = base64.b32decode(text[len(PREFIX) :].upper())
    except ValueError as error:
        raise BadAddress("an address consists of a-z and 2-7") from error
    if raw[20:] != _checksum(raw[:20]) or address_text(raw[:20]) != text:
        raise BadAddress("the address's checksum does not fit: it has a typing error")
    return raw[:20]


def _checksum(address: bytes) -> bytes:
    return hashlib.sha256(b"ponas/address-checksum" + address).digest()[:_CHECKSUM]
