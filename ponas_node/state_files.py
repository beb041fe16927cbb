"""States of trainings under way, on the disk of a pool: one file each, named by its SHA-256."""

from __future__ import annotations

from pathlib import Path

from ponas_node.files import write_whole


class StateFolder:
    """States in a folder of their own, `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put(self, id: bytes, data: bytes) -> None:
        """Store a state, durably; all of it or nothing. Raises OSError."""
        write_whole(self._root / id.hex(), data)

    def read(self, id: bytes, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on; None where the state is not here. Raises OSError."""
        try:
            with (self._root / id.hex()).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return None

    def keep_only(self, ids: set[bytes]) -> None:
        """Remove all other states, and what a kill left unfinished. Raises OSError."""
        names = {id.hex() for id in ids}
        for path in self._root.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)
