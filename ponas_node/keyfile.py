"""The node's own key (peer identity, beacon transactions): made at first start, readable by its user only."""

from __future__ import annotations

import os
from pathlib import Path

from chain.keys import PrivateKey


class BrokenKeyFile(Exception):
    """A key file that cannot be used; the message says what to do."""


def load_or_create_key(path: Path) -> PrivateKey:
    """The key in `path`, 64 hex digits; made anew where there is no such file. Raises BrokenKeyFile."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        key = PrivateKey.generate()
        temporary = path.with_suffix(".new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key.seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return key
    try:
        return PrivateKey(bytes.fromhex(text))
    except ValueError as error:
        raise BrokenKeyFile(
            f"{path} is not a key file: restore it from a backup, or delete it to get a new key"
        ) from error
