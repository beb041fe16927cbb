"""What a pool has promised, on the member's disk: acknowledged shares, and the signed heads of the pool's ledger."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from chain.errors import BadEncoding, BadSignature
from ponas_node.files import write_whole
from pool.heads import SignedHead

_ID, _ROW = 32, 40


class Receipts:
    """Receipts of one pool, by its public key, in a folder of its own below `folder`.

    The latest head that was seen and the latest one that was checked are kept apart, so that the next check can prove
    the way from one to the other.
    """

    def __init__(self, folder: Path, pool: bytes) -> None:
        self._folder = folder / pool.hex()
        self._pool = pool

    def add(self, share: bytes, points: int) -> None:
        """Keep that the pool acknowledged a share; durable when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "shares").open("ab") as file:
            torn = file.tell() % _ROW
            if torn:
                file.truncate(file.tell() - torn)
            file.write(share + points.to_bytes(_ROW - _ID, "big"))
            file.flush()
            os.fsync(file.fileno())

    def shares(self) -> dict[bytes, int]:
        """Points by id of every acknowledged share."""
        try:
            data = (self._folder / "shares").read_bytes()
        except FileNotFoundError:
            return {}
        rows = (data[i : i + _ROW] for i in range(0, len(data) - len(data) % _ROW, _ROW))
        return {row[:_ID]: int.from_bytes(row[_ID:], "big") for row in rows}

    def take(self, head: SignedHead) -> str | None:
        """Keep a head; answers what is wrong where it contradicts an earlier one, and keeps both as evidence."""
        try:
            head.verify()
        except BadSignature:
            return "a head of the ledger is not signed by the pool"
        if head.pool != self._pool:
            return "a head of the ledger is another pool's"
        for name in ("latest", "checked"):
            known = self.head(name)
            if known is not None and known.contradicts(head):
                self._write("fraud-1", known)
                self._write("fraud-2", head)
                return f"the pool signed two ledgers of {head.size} entries; the evidence is in {self._folder}"
            if known is not None and head.size < known.size:
                if head.at < known.at:
                    return None  # it came late: a miner has taken a newer one
                return f"the pool's ledger has shrunk from {known.size} entries to {head.size}"
        self._write("latest", head)
        return None

    def head(self, name: str) -> SignedHead | None:
        """The head of that name, "latest" or "checked", if there is one."""
        with contextlib.suppress(FileNotFoundError, BadEncoding):
            return SignedHead.decode((self._folder / name).read_bytes())
        return None

    def check_off(self, head: SignedHead) -> None:
        """Everything up to `head` was checked."""
        self._write("checked", head)

    def _write(self, name: str, head: SignedHead) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / name, head.encode())
