"""Wallet files: one key, sealed with a passphrase (scrypt, ChaCha20-Poly1305), or plainly marked as not encrypted.

The file is JSON: `version`, `address`, `public_key`, `encryption`; then `seed`, or `scrypt`, `nonce`, `sealed_seed`.
The seal covers address and public key, so none of them can be exchanged without the passphrase.
"""

from __future__ import annotations

import json
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chain.frames import sync_folder
from chain.keys import BadAddress, PrivateKey, address_of, address_text, parse_address

VERSION = 1
NONE = "none"
SEALED = "scrypt-chacha20poly1305"

_N, _R, _P = 1 << 15, 8, 1  # 32 MiB and about a tenth of a second
_MOST_MEMORY = 256 << 20  # of scrypt, 128 * n * r: a hostile file must not take more
_MOST_FILE = 16 << 10
_TAG = b"ponas/wallet"


class WalletError(Exception):
    """A wallet file that cannot be used or made; the message says why and what to do."""


class WalletExists(WalletError):
    """A file of that name is there already; it was left as it is."""


class WalletMissing(WalletError):
    """There is no such file."""


class BrokenWallet(WalletError):
    """The file is no wallet, or it is damaged."""


class WrongPassphrase(WalletError):
    """The passphrase does not open the wallet."""


class Wallet:
    """A wallet file that was read but not opened: what can be known without the passphrase."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self._content = content
        try:
            if content["version"] != VERSION:
                raise BrokenWallet(
                    f"{path} is a wallet of version {content['version']!r}; this program reads {VERSION}."
                )
            self.public = _hex(content["public_key"], 32)
            self.address = parse_address(content["address"])
            self.encryption = content["encryption"]
        except (KeyError, TypeError, ValueError, AttributeError, BadAddress) as error:
            raise _broken(path, "it lacks an address, a public key or its kind of encryption") from error
        if address_of(self.public) != self.address:
            raise _broken(path, "its address and its public key do not belong together")
        if self.encryption not in (NONE, SEALED):
            raise _broken(path, "its kind of encryption is not known")

    @property
    def encrypted(self) -> bool:
        """Whether a passphrase is needed to open it."""
        return bool(self.encryption == SEALED)

    def open(self, passphrase: str = "") -> PrivateKey:
        """The key. Raises WrongPassphrase or BrokenWallet; a wallet that is not encrypted takes any passphrase."""
        try:
            seed = self._unseal(passphrase) if self.encrypted else _hex(self._content["seed"], 32)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _broken(self.path, "its sealed part is incomplete") from error
        key = PrivateKey(seed)
        if key.public != self.public:
            raise _broken(self.path, "its key does not belong to its address")
        return key

    def _unseal(self, passphrase: str) -> bytes:
        scrypt = self._content["scrypt"]
        n, r, p = (_whole(scrypt[name]) for name in ("n", "r", "p"))
        if not (2 <= n <= 1 << 24 and n & (n - 1) == 0 and 1 <= r <= 32 and 1 <= p <= 4):
            raise _broken(self.path, "its scrypt parameters are out of range")
        if 128 * n * r > _MOST_MEMORY:
            raise _broken(self.path, f"opening it would take more than {_MOST_MEMORY >> 20} MiB of memory")
        salt, nonce = _hex(scrypt["salt"], 16), _hex(self._content["nonce"], 12)
        sealed = _hex(self._content["sealed_seed"], 48)
        cipher = ChaCha20Poly1305(_stretch(passphrase, salt, n, r, p))
        try:
            return cipher.decrypt(nonce, sealed, _associated(self.public))
        except InvalidTag as error:
            message = f"This passphrase does not open {self.path}: it is wrong, or the file was altered."
            raise WrongPassphrase(message) from error


def create_wallet(path: Path, passphrase: str | None, key: PrivateKey | None = None) -> Wallet:
    """Make a wallet file of a new key (or of `key`); `passphrase` None leaves it unencrypted.

    The file appears whole and on disk, readable by its user only, or not at all. Raises WalletExists, WalletError.
    """
    key = key if key is not None else PrivateKey.generate()
    content: dict[str, Any] = {
        "version": VERSION,
        "address": address_text(key.address),
        "public_key": key.public.hex(),
    }
    if passphrase is None:
        content |= {"encryption": NONE, "seed": key.seed.hex()}
    elif passphrase:
        content |= {"encryption": SEALED, **_seal(key, passphrase)}
    else:
        raise WalletError("An empty passphrase protects nothing: choose one, or ask for no encryption.")
    _write_new(path, json.dumps(content, indent=2) + "\n")
    return Wallet(path, content)


def read_wallet(path: Path) -> Wallet:
    """Read a wallet file without opening it. Raises WalletMissing, BrokenWallet, WalletError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE + 1)
    except FileNotFoundError as error:
        raise WalletMissing(
            f"There is no wallet at {path}: make one with `ponas wallet new --wallet {path}`."
        ) from error
    except OSError as error:
        raise WalletError(f"The wallet {path} cannot be read: {error.strerror}.") from error
    try:
        content = json.loads(data[:_MOST_FILE]) if len(data) <= _MOST_FILE else None
    except (ValueError, RecursionError) as error:
        raise _broken(path, "it is not JSON") from error
    if not isinstance(content, dict):
        raise _broken(path, "it is not a wallet file")
    return Wallet(path, content)


def _seal(key: PrivateKey, passphrase: str) -> dict[str, Any]:
    salt, nonce = os.urandom(16), os.urandom(12)
    cipher = ChaCha20Poly1305(_stretch(passphrase, salt, _N, _R, _P))
    return {
        "scrypt": {"n": _N, "r": _R, "p": _P, "salt": salt.hex()},
        "nonce": nonce.hex(),
        "sealed_seed": cipher.encrypt(nonce, key.seed, _associated(key.public)).hex(),
    }


def _stretch(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    # Systems differ in how they type a letter with an accent; NFC makes one passphrase of them.
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(secret)


def _associated(public: bytes) -> bytes:
    return _TAG + bytes([VERSION]) + address_of(public) + public


def _write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".wallet-")  # of mode 0600
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, this fails where the name is taken
        finally:
            os.unlink(temporary)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise WalletExists(
            f"{path} exists already and was left as it is: choose another name for the wallet."
        ) from error
    except OSError as error:
        raise WalletError(f"The wallet {path} cannot be written: {error.strerror}. Choose another place.") from error


def _broken(path: Path, what: str) -> BrokenWallet:
    return BrokenWallet(f"{path} is not a usable wallet: {what}. Restore it from a backup.")


def _hex(text: str, length: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != length:
        raise ValueError("wrong length")
    return data


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not an integer")
    return value
