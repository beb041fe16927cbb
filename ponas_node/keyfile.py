"""The node's own key (peer identity, beacon transactions): made at first start, readable by its user only."""

from __future__ import annotations

from pathlib import Path

from chain.keys import PrivateKey
from ponas_node.files import write_whole


class BrokenKeyFile(Exception):
    """A key file that cannot be used; the message says what to do."""


def load_or_create_key(path: Path) -> PrivateKey:
    """The key in `path`, 64 hex digits; made anew where there is no such file. Raises BrokenKeyFile."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        key = PrivateKey.generate()
        write_whole(path, f"{key.seed.hex()}\n".encode())
        return key
    try:
        return PrivateKey(bytes.fromhex(text))
    except ValueError as error:
        raise BrokenKeyFile(
            f"{path} is not a key file: restore it from a backup, or delete it to get a new key"
        ) from error
