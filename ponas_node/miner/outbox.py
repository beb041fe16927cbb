"""Shares that the pool has not acknowledged, on disk: a share is sent until the pool answers for good."""

from __future__ import annotations

from pathlib import Path

from chain.errors import BadEncoding
from ponas_node.files import write_whole
from pool.messages import ShareUpload

_SUFFIX = ".share"
_MOST = 1 << 29


class Outbox:
    """One file per share in `folder`, oldest first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._waiting: dict[bytes, ShareUpload] = {}
        for path in sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns):
            try:
                upload = ShareUpload.decode(path.read_bytes(), _MOST)
            except BadEncoding:
                path.rename(path.with_suffix(".damaged"))  # kept for a person to look at; never written by this code
                continue
            self._waiting[upload.signed.share.id] = upload

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, upload: ShareUpload) -> None:
        """Keep a share; durable when this returns."""
        id = upload.signed.share.id
        write_whole(self._path(id), upload.encode())
        self._waiting[id] = upload

    def next(self) -> ShareUpload | None:
        """The oldest share, or None."""
        return next(iter(self._waiting.values()), None)

    def done(self, id: bytes) -> None:
        """The pool answered for good."""
        self._waiting.pop(id, None)
        self._path(id).unlink(missing_ok=True)

    def genotypes(self, epoch: int, task: bytes) -> set[bytes]:
        """Architectures of this search that wait here."""
        shares = [upload.signed.share for upload in self._waiting.values()]
        return {share.genotype for share in shares if (share.epoch, share.task) == (epoch, task)}

    def _path(self, id: bytes) -> Path:
        return self._folder / f"{id.hex()}{_SUFFIX}"
