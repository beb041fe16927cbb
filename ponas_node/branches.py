"""What the node does about branches that fork deep: refuses them where it has followed live, else the denser counts.

Source: protocol L14 and L15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chain.chain import Outcome, Status
from chain.checkpoints import Checkpoint
from chain.density import Trial, blocks_in_window, check_open
from chain.errors import Ignore, Missing, TooDeep
from chain.types import Block, Header
from ponas_node.following import Following
from ponas_node.oracle import FOR_BLOCK

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_DECIDED = b"decided"  # height up to which density has decided, while the node joins
_ROUNDS = 64  # times beyond one per block that facts are established for one branch before it is given up


class Branches:
    """Serves `ponas_node.p2p` for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chain = node.chain
        self._label = node.config.label
        self._kept = node.store.namespace(b"following")
        self._following = Following(node.genesis.ledger.max_rollback, self._kept)
        decided = self._kept.get(_DECIDED)
        self._chain.decided = -1 if decided is None else int.from_bytes(decided, "big")
        self.lock = asyncio.Lock()  # held by whoever takes blocks: while a branch is tried, the tip must not move
        self.adopted = 0
        self.refused = 0

    def is_joining(self) -> bool:
        """Whether the node was away and has yet to find out which branch its network is on, by clock and tip."""
        chain = self._chain
        before = chain.horizon
        chain.horizon = self._following.look(self._node.slot(), chain.tip.slot)
        if chain.horizon is None and chain.decided >= 0:
            chain.decided = -1
            self._kept.delete(_DECIDED)
        if before != chain.horizon:
            words = "follows the network live" if chain.horizon is None else f"joins from slot {chain.horizon}"
            log.info("%s: %s", self._label, words)
        return chain.horizon is not None or chain.checkpoints.ahead(chain.height) is not None

    @property
    def window(self) -> int:
        """Slots after a deep fork whose blocks are counted: in all of them seats lead that were won before the fork."""
        return min(self._node.genesis.ledger.max_rollback, self._node.genesis.consensus.challenge_blocks)

    def density(self, fork: Header) -> int:
        """Blocks of the best chain in the window after `fork`, one of its blocks."""
        return blocks_in_window(self._chain, fork, self.window)

    def check_open(self, fork: Header) -> None:
        """Raise TooDeep where the best chain must not be left after `fork`, however dense another branch is."""
        with self._reporting():
            check_open(self._chain, fork)

    async def adopt(self, blocks: Sequence[Block], peer: bytes) -> None:
        """Follow a branch that is denser than ours after a deep fork; raises Invalid, and nothing has changed then."""
        trial: Trial | None = None
        for _ in range(_ROUNDS + len(blocks)):
            try:
                async with self.lock:
                    if trial is None or trial.stale:
                        trial = Trial(self._chain, blocks)
                    while trial.step():  # noqa: ASYNC110 - nothing is waited for: others run between two blocks
                        await asyncio.sleep(0)
                    self._adopt(trial)
            except Missing as error:
                await self._node.establish(error, FOR_BLOCK, peer)
            else:
                return
        raise Ignore("the facts that the branch needs keep changing", "unsettled")

    def _adopt(self, trial: Trial) -> None:
        left = self._chain.tip
        outcome = trial.adopt(self.window)
        self._kept.put(_DECIDED, self._chain.decided.to_bytes(8, "big"))
        self.adopted += 1
        log.warning(
            "%s: left the branch of block %s at height %d for a denser one, which forks after height %d",
            self._label, left.id.hex()[:16], left.height, trial.fork.height,
        )  # fmt: skip
        self._node.after(outcome, trial.branch[-1])

    def pin(self, fork: Header, header: Header) -> None:
        """Go back to `fork`, and on with nothing but `header`: a checkpoint has proven it. Raises TooDeep."""
        with self._reporting():
            self._chain.rewind(fork)
        self._chain.checkpoints.add(Checkpoint(header.height, header.id))
        self.adopted += 1
        log.warning("%s: went back to height %d, where the branch of the checkpoint begins", self._label, fork.height)
        self._node.after(Outcome(Status.REORG), None)

    def report(self, what: str) -> None:
        """Count and log a branch that was refused: an operator should look at it."""
        self.refused += 1
        log.error("%s: %s", self._label, what)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Around what refuses a branch by TooDeep."""
        try:
            yield
        except TooDeep as error:
            self.report(str(error))
            raise
