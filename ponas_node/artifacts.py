"""Models and datasets on disk: one file per artifact, named by its content id, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from chain.artifact import artifact_id
from ponas_node.files import write_whole


class ArtifactStore:
    """Artifacts of a node in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, id: bytes) -> Path:
        """Where the artifact `id` is or would be."""
        return self.root / id.hex()

    def has(self, id: bytes) -> bool:
        """Whether the artifact is here, whole."""
        return self.path(id).is_file()

    def size(self, id: bytes) -> int | None:
        """Size in bytes, or None where it is not here."""
        try:
            return self.path(id).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, id: bytes) -> bytes | None:
        """Content, or None where it is not here."""
        try:
            return self.path(id).read_bytes()
        except FileNotFoundError:
            return None

    def head(self, id: bytes, most: int) -> bytes | None:
        """The first `most` bytes, or None where it is not here."""
        try:
            with self.path(id).open("rb") as file:
                return file.read(most)
        except FileNotFoundError:
            return None

    def put(self, data: bytes) -> bytes:
        """Store `data` durably; returns its id."""
        id = artifact_id(data)
        if not self.has(id):
            write_whole(self.path(id), data)
        return id
