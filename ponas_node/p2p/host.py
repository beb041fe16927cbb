"""What the network asks of the node that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chain.checkpoints import Checkpoints
from chain.keys import PrivateKey
from chain.types import Block, Header, Transaction
from ponas_node.artifacts import ArtifactStore


class ChainView(Protocol):
    """The part of `chain.chain.Chain` that peers are served from."""

    @property
    def tip(self) -> Header:
        """Header of the best block."""
        ...

    @property
    def genesis(self) -> Header:
        """Header of the first block."""
        ...

    @property
    def base(self) -> int:
        """Height at which the blocks begin, beside genesis; 0 where all are there."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Blocks that the operator trusts."""
        ...

    def canonical(self, height: int, /) -> Header:
        """Header of the block of the best chain at a height from `base` to the tip's."""
        ...

    def is_deep(self, fork: Header, /) -> bool:
        """Whether length does not decide about a branch that leaves the best chain after `fork`."""
        ...

    def headers_after(self, locator: Sequence[bytes], limit: int, /) -> list[Header]:
        """Headers of the best chain after the first id of `locator` on it."""
        ...

    def has(self, block_id: bytes, /) -> bool:
        """Whether a block is known, on whatever branch."""
        ...

    def block(self, block_id: bytes, /) -> Block | None:
        """A known block."""
        ...

    def locator(self) -> list[bytes]:
        """Ids of the best chain, newest first, in growing steps, genesis last."""
        ...

    def after(self, locator: Sequence[bytes], limit_blocks: int, limit_bytes: int, /) -> list[Block]:
        """Blocks of the best chain after the first id of `locator` on it; at least one where there is one."""
        ...


class Branches(Protocol):
    """What the node does about branches that fork deep."""

    def is_joining(self) -> bool:
        """Whether the node has yet to find out which branch its network is on."""
        ...

    @property
    def window(self) -> int:
        """Slots after a deep fork whose blocks are counted."""
        ...

    def density(self, fork: Header) -> int:
        """Blocks of the best chain in the window after `fork`, one of its blocks."""
        ...

    def check_open(self, fork: Header) -> None:
        """Raise TooDeep where the best chain must not be left after `fork`, however dense another branch is."""
        ...

    async def adopt(self, blocks: Sequence[Block], peer: bytes) -> None:
        """Follow these blocks of the node `peer`, all those in a window, in place of ours where they are more.

        Raises chain.errors.Invalid as `receive_block` does; nothing has changed then.
        """
        ...

    def pin(self, fork: Header, header: Header) -> None:
        """Go back to `fork` and on with nothing but `header`: a checkpoint has proven it. Raises TooDeep."""
        ...


class Host(Protocol):
    """The node, as the network sees it."""

    @property
    def network(self) -> bytes:
        """32-byte network id."""
        ...

    @property
    def node_key(self) -> PrivateKey:
        """Key that names this node to its peers."""
        ...

    @property
    def chain(self) -> ChainView:
        """The chain."""
        ...

    @property
    def artifacts(self) -> ArtifactStore:
        """Models and datasets on disk."""
        ...

    @property
    def max_artifact_bytes(self) -> int:
        """No artifact larger than this is fetched."""
        ...

    @property
    def branches(self) -> Branches:
        """What the node does about branches that fork deep."""
        ...

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def pending_transaction(self, id: bytes) -> Transaction | None:
        """A pending transaction."""
        ...

    def pending_ids(self) -> list[bytes]:
        """Ids of all pending transactions."""
        ...

    async def receive_transaction(self, transaction: Transaction, peer: bytes) -> object:
        """Take a transaction from the node with public key `peer`.

        Raises chain.errors.Invalid: Ignore to drop it, Reject to penalise the peer. May call `Network.fetch_artifact`.
        """
        ...

    async def receive_block(self, block: Block, peer: bytes) -> object:
        """Take a block from the node with public key `peer`; a known one is no error.

        Raises chain.errors.Invalid as above; UnknownParent means: catch up from that peer. What the node accepts it
        announces itself by `Network.announce_block`.
        """
        ...
