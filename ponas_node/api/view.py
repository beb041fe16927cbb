"""What the API asks of a node. The API reads through this and changes nothing but by `submit_transaction`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from chain.chain import Chain
from chain.state import StateView
from chain.types import Transaction
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.artifacts import ArtifactStore
from ponas_node.clock import ClockStatus


class MempoolView(Protocol):
    """Transactions that wait for a block."""

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        ...

    @property
    def ready(self) -> int:
        """How many could go into the next block."""
        ...

    def best_first(self) -> Iterator[Transaction]:
        """Those that could go into the next block, in the order in which it would take them."""
        ...

    def transactions(self) -> Sequence[Transaction]:
        """All of them."""
        ...

    def next_nonce(self, state: StateView, address: bytes, /) -> int:
        """The nonce that the next transaction of `address` should have, after those that wait."""
        ...

    def get(self, transaction_id: bytes, /) -> Transaction | None:
        """One of them by id, or None."""
        ...

    def __len__(self) -> int: ...


class NodeView(Protocol):
    """A running node. Dicts hold plain JSON values; times are in seconds."""

    @property
    def genesis(self) -> Genesis:
        """The network's genesis."""
        ...

    @property
    def rules(self) -> ConsensusRules:
        """The network's rules."""
        ...

    @property
    def chain(self) -> Chain:
        """The best chain."""
        ...

    @property
    def mempool(self) -> MempoolView:
        """Waiting transactions."""
        ...

    @property
    def artifacts(self) -> ArtifactStore:
        """Models and datasets on disk."""
        ...

    def now(self) -> float:
        """Unix time."""
        ...

    def slot(self) -> int:
        """Slot at `now`; negative before genesis."""
        ...

    async def submit_transaction(self, transaction: Transaction) -> None:
        """Take a transaction into the mempool and pass it on; raises chain.errors.Invalid."""
        ...

    def peers(self) -> Sequence[Mapping[str, Any]]:
        """Connected peers."""
        ...

    def sync_status(self) -> Mapping[str, Any]:
        """At least `syncing`: bool; while it is true also what is left and an estimate."""
        ...

    def clock_status(self) -> ClockStatus:
        """How this node's clock stands to its peers'."""
        ...

    def refusals(self) -> Sequence[Mapping[str, Any]]:
        """What was refused of late, from whom and why."""
        ...

    def pool_summary(self) -> Mapping[str, Any] | None:
        """The pool that this node runs, or None."""
        ...

    def pool_member(self, address: bytes) -> Mapping[str, Any] | None:
        """A member of the pool by its address; None where there is no pool or no such member."""
        ...

    def counters(self) -> Mapping[str, float]:
        """More metrics by name, all of which only ever grow."""
        ...


VIEW: web.AppKey[NodeView] = web.AppKey("view", NodeView)


def view_of(request: web.Request) -> NodeView:
    """The node behind a request."""
    return request.app[VIEW]
