"""The chain as a file: raw blocks of the best chain, one after the other.

The container is that of `chain.frames`, kind `chain`. Its first frame is the height of the first block and the number
of blocks, 8 bytes each; every other frame is the canonical bytes of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from chain import layout
from chain.frames import BadFile, FrameFile, writing
from chain.store import Store

KIND = b"chain"

Progress = Callable[[int, int], None]  # done, of how many


def export_chain(store: Store, tip: int, path: Path, progress: Progress) -> tuple[int, int]:
    """Write the blocks up to height `tip` to a new file; returns the height of the first and their number."""
    first = max(1, store.base)
    count = max(0, tip + 1 - first)
    with writing(path, KIND, store.network) as file:
        file.write(first.to_bytes(8, "big") + count.to_bytes(8, "big"))
        for height in range(first, first + count):
            file.write(raw_block(store, height))
            progress(height + 1 - first, count)
    return first, count


def raw_block(store: Store, height: int) -> bytes:
    """Canonical bytes of the block at `height`; raises StoreError where it is not there."""
    block_id = store.id_at(height)
    raw = None if block_id is None else store.raw_get(layout.BLOCK + block_id)
    if raw is None:
        raise store.damaged(f"the block at height {height} is missing")
    return raw


class ChainFile:
    """An exported chain, its file checked. `first` is the height of its first block. Raises BadFile."""

    def __init__(self, path: Path, network: bytes) -> None:
        self._file = FrameFile(path, KIND, network)
        head = next(iter(self._file), b"")
        self.first, self.count = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
        if len(head) != 16 or self.count != self._file.frames - 1 or not self.first:
            raise BadFile(f"{path} is no exported chain: its head does not fit its content. Get it again.")

    def missing_from(self, store: Store) -> Iterator[bytes]:
        """Raw blocks that `store` does not have on its best chain, in order: an import goes on where it was cut off."""
        frames = iter(self._file)
        next(frames)
        for height, raw in enumerate(frames, self.first):
            block_id = store.id_at(height)
            if block_id is None or store.raw_get(layout.BLOCK + block_id) != raw:
                yield raw
