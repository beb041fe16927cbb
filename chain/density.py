"""Which of two branches that fork deep a node follows that was away: the one denser after the fork.

Length says nothing there: a branch that a minority of the seats made in secret may have caught up since. Just after the
fork both branches have the same seats, so the one with more blocks in the slots that follow is the one that more of
the seats were minting on. Source: protocol L15; the rule is that of Ouroboros Genesis.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain.chain import Chain, Outcome, Status, check_link
from chain.errors import BadBlock, TooDeep
from chain.ledger import check_stateless
from chain.state import Overlay
from chain.types import Block, Header

_WRITTEN_AT_ONCE = 64  # blocks of the branch


def blocks_in_window(chain: Chain, fork: Header, window: int) -> int:
    """Blocks of the best chain in the `window` slots after `fork`, one of its blocks."""
    count = 0
    for height in range(fork.height + 1, chain.height + 1):
        if chain.canonical(height).slot > fork.slot + window:
            break
        count += 1
    return count


def check_open(chain: Chain, fork: Header) -> None:
    """Raise TooDeep where this node may not leave the best chain after `fork`, however dense another branch is.

    It has followed the network up to `Chain.horizon`: what was final then stays.
    """
    chain.checkpoints.check_fork(chain.tip, fork)
    limit = chain.rules.parameters.max_rollback
    if chain.horizon is None:
        raise TooDeep(f"the branch forks {chain.tip.slot - fork.slot} slots back, and this node has followed all along")
    if fork.slot < chain.horizon - limit or fork.height < chain.base:
        raise TooDeep(
            f"the branch forks at slot {fork.slot}, and this node has followed the network up to slot {chain.horizon}. "
            "If you know that the other branch is right, move the folder `db` away and start again with "
            "`ponas node --checkpoint HEIGHT:HASH` of one of its blocks"
        )


class Trial:
    """Executes a branch in memory, before the best chain is given up for it.

    `step` executes one block. It raises Missing where facts must be established first, and tries again when called
    again; once the tip has moved (`stale`) another trial is needed. Where a block breaks a rule it raises a Reject.
    """

    def __init__(self, chain: Chain, branch: Sequence[Block]) -> None:
        fork = chain.store.header(branch[0].header.parent)
        if fork is None:
            raise TooDeep("the branch does not leave the best chain")
        check_open(chain, fork)
        self.chain = chain
        self.branch = branch
        self.fork = fork
        self._tip = chain.tip.id
        self._done = 0
        self._state, self._nodes = Overlay(chain.store.state), Overlay(chain.store.nodes)
        parent = fork
        for block in branch:
            if block.header.parent != parent.id:
                raise BadBlock("the blocks do not follow one another", "bad_link")
            check_link(parent, block.header)
            chain.checkpoints.check(block.header)
            parent = block.header
        chain.undo(fork, self._state, self._nodes)

    @property
    def stale(self) -> bool:
        """Whether the tip has moved since."""
        return self.chain.tip.id != self._tip

    def step(self) -> bool:
        """Execute the next block; returns whether there was one."""
        if self._done == len(self.branch):
            return False
        block = self.branch[self._done]
        check_stateless(self.chain.rules, block)
        parent = self.branch[self._done - 1].header if self._done else self.fork
        self.chain.execute(parent, self._state, self._nodes, block, self.branch[-1])
        self._done += 1
        return True

    def adopt(self, window: int) -> Outcome:
        """Follow the branch, all of it executed, in place of the best chain, shorter though it may be.

        Raises TooDeep where it does not have more blocks in the `window` slots after the fork.
        """
        chain = self.chain
        ours = blocks_in_window(chain, self.fork, window)
        theirs = sum(block.header.slot <= self.fork.slot + window for block in self.branch)
        if theirs <= ours:
            raise TooDeep(f"the branch has {theirs} blocks in the {window} slots after the fork, ours {ours}")
        chain.rewind(self.fork)
        for start in range(0, len(self.branch), _WRITTEN_AT_ONCE):
            chain.extend(self.branch[start : start + _WRITTEN_AT_ONCE])
        chain.decided = self.fork.height
        return Outcome(Status.REORG, tuple(self.branch))
