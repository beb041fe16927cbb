"""A miner's data directory: one miner at a time, and a name for this machine."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
from pathlib import Path
from typing import IO


class DataInUse(Exception):
    """Another miner runs in this data directory."""


def lock(data: Path) -> IO[str]:
    """Keep other miners out of `data` until the file is closed. Raises DataInUse."""
    data.mkdir(parents=True, exist_ok=True)
    file = (data / "miner.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataInUse(f"another miner runs in {data}: stop it, or give this one its own --data") from error
    return file


def worker_name(data: Path) -> bytes:
    """A name for this machine, so that two machines under one wallet do not get in each other's way."""
    path = data / "worker"
    with contextlib.suppress(FileNotFoundError, ValueError):
        name = bytes.fromhex(path.read_text())
        if len(name) == 8:
            return name
    name = secrets.token_bytes(8)
    path.write_text(name.hex())
    return name
