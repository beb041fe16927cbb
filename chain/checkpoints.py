"""Blocks that the operator trusts: at their heights no other block is ever followed. Source: protocol L14."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chain.errors import BadBlock, TooDeep
from chain.failures import StoreError
from chain.store import Store
from chain.types import Header


class BadCheckpoint(ValueError):
    """Checkpoints that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """The block with this 32-byte id is the one at this height."""

    height: int
    id: bytes

    def __str__(self) -> str:
        return f"{self.height}:{self.id.hex()}"


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint from HEIGHT:HASH; raises BadCheckpoint."""
    height, _, name = text.partition(":")
    try:
        block_id = bytes.fromhex(name)
    except ValueError:
        block_id = b""
    if not (height.isascii() and height.isdecimal() and len(height) <= 18 and len(block_id) == 32):
        raise BadCheckpoint(f"{text!r} is not HEIGHT:HASH, a height and the 64 hexadecimal digits of a block's id")
    return Checkpoint(int(height), block_id)


class Checkpoints:
    """The checkpoints of one node. Raises BadCheckpoint where two contradict each other.

    Iterates over those that the operator gave, in order of height.
    """

    def __init__(self, trusted: Iterable[Checkpoint] = ()) -> None:
        self._given = tuple(sorted(set(trusted)))
        self._ids: dict[int, bytes] = {}
        for checkpoint in self._given:
            self.add(checkpoint)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._given)

    def add(self, checkpoint: Checkpoint) -> None:
        """Trust a block that leads to one of them, too; raises BadCheckpoint where another one is trusted there."""
        known = self._ids.setdefault(checkpoint.height, checkpoint.id)
        if known != checkpoint.id:
            raise BadCheckpoint(
                f"two blocks are trusted at height {checkpoint.height}: {known.hex()} and {checkpoint.id.hex()}"
            )

    def check(self, header: Header) -> None:
        """Raise BadBlock where another block is trusted at the height of `header`."""
        trusted = self._ids.get(header.height)
        if trusted is not None and trusted != header.id:
            raise BadBlock(f"at height {header.height} the trusted block is {trusted.hex()}", "not_the_checkpoint")

    def reached(self, height: int) -> int:
        """Height of the last checkpoint up to `height`; 0, that of genesis, where there is none."""
        return max((each for each in self._ids if each <= height), default=0)

    def check_fork(self, tip: Header, fork: Header) -> None:
        """Raise TooDeep where a branch that leaves after `fork` would drop a trusted block of the chain up to `tip`."""
        trusted = self.reached(tip.height)
        if fork.height < trusted:
            raise TooDeep(f"the branch forks at height {fork.height}, before the checkpoint at {trusted}")

    def ahead(self, height: int) -> Checkpoint | None:
        """The first checkpoint beyond `height`."""
        beyond = min((each for each in self._ids if each > height), default=None)
        return None if beyond is None else Checkpoint(beyond, self._ids[beyond])

    def check_store(self, store: Store) -> None:
        """Raise StoreError where the best chain of `store` has another block at the height of a checkpoint.

        Heights before a restored state are not looked at: whoever restored it trusted its block by id.
        """
        for height, trusted in self._ids.items():
            found = store.id_at(height)
            if found is not None and found != trusted and (height == 0 or height >= store.base):
                raise StoreError(
                    "checkpoint",
                    f"The database in {store.path} has block {found.hex()} at height {height}, but the checkpoint "
                    f"says {trusted.hex()}.",
                    f"Check the checkpoint with somebody you trust. If it is right, this node followed a false "
                    f"branch: move {store.path} away and start again with the same --checkpoint, and the node takes "
                    "the right branch from its peers. If it is wrong, start without it.",
                )
