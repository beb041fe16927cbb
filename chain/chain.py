"""Chain selection: takes blocks, keeps the best chain in the store. No time, no network. Source: protocol 7 and L12.

Best is the chain with more blocks; of equal length, the one seen first. A branch is executed only when it would win.
How a node that was away chooses between branches that fork deeper than `max_rollback` stands in `chain.density`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from chain.checkpoints import Checkpoints
from chain.deadline import Deadline
from chain.errors import BadBlock, Invalid, Reject, TooDeep, UnknownParent
from chain.failures import other_network
from chain.hashing import EMPTY
from chain.ledger import apply_block, check_stateless, draft_block
from chain.opening import check_tip
from chain.proofs import StateProof, prove_state
from chain.rules import BlockContext, Rules
from chain.side import SidePool
from chain.state import EmptyState, Overlay, StateView
from chain.store import Changes, Store, TipChange
from chain.tree import BrokenTree, update
from chain.types import VERSION, Block, Header, Transaction, transactions_root
from chain.verify import verify_store

_DENSE = 10  # ids of a locator that follow one another before the steps grow
_MAX_LOCATOR = 128  # ids of a peer's locator that are looked at
_PRUNED_AT_ONCE = 1024  # undo records that one change of tip removes at most
_UNDONE_AT_ONCE = 256  # blocks that one write of `rewind` takes back
_RESERVE = 512  # bytes kept free in a draft for header and coinbase, before the first draft has shown their size


class Status(Enum):
    """What became of a block."""

    EXTENDED = "extended"
    REORG = "reorg"
    SIDE = "side"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of `Chain.add_block`. `connected` oldest first, `disconnected` newest first."""

    status: Status
    connected: tuple[Block, ...] = ()
    disconnected: tuple[Block, ...] = ()


class Chain:
    """The best chain of one store under one set of rules.

    Raises StoreError where the store belongs to another genesis, is damaged, or contradicts a checkpoint.
    """

    def __init__(
        self, store: Store, rules: Rules, side: SidePool | None = None, checkpoints: Checkpoints | None = None
    ) -> None:
        self.store = store
        self.rules = rules
        self.checkpoints = checkpoints if checkpoints is not None else Checkpoints()
        self.horizon: int | None = None  # slot; undo records are kept for what may be compared by density after it
        self.decided = -1  # height; of branches that leave there or before, density has decided and not length
        self.verified: Container[bytes] = ()  # ids of transactions whose signatures were verified: the mempool's
        store.use_index(rules.index)
        self._reserve = _RESERVE
        self._side = side if side is not None else SidePool()
        self.genesis, state, nodes = make_genesis(rules)
        tip = store.tip
        if tip is None:
            undo: Changes = dict.fromkeys(state)
            store.commit(TipChange((), ((Block(self.genesis, ()), undo),), state, nodes))
            self.tip = self.genesis
            self.checkpoints.check_store(store)
            return
        if store.id_at(0) != self.genesis.id:
            raise other_network(store.path, "starts from another genesis block: of another file or of a version before")
        self.tip = check_tip(store, tip)
        self.checkpoints.check_store(store)

    @property
    def state(self) -> StateView:
        """State after the tip."""
        return self.store.state

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.tip.height

    @property
    def base(self) -> int:
        """Height at which the blocks begin, beside genesis: that of the state it was restored from, else 0."""
        return self.store.base

    def add_block(self, block: Block) -> Outcome:
        """Take a block; make its branch the best chain where it has more blocks.

        Raises Invalid: UnknownParent, TooDeep, a Reject where the block or its branch breaks a rule, or Missing, in
        which case nothing changed and the caller establishes the facts and calls again. No raise moves the tip.
        """
        header = block.header
        if self.has(block.id):
            return Outcome(Status.KNOWN)
        if self._side.is_bad(block.id):
            raise BadBlock("the block is known to be invalid", "known_bad")
        if self._side.is_bad(header.parent):
            self._side.mark_bad_child(block.id)
            raise BadBlock("the block follows an invalid one", "bad_ancestor")
        try:
            self.checkpoints.check(header)
        except BadBlock:
            self._side.mark_bad(block.id)
            raise
        parent = self.header(header.parent)
        if parent is None:
            raise UnknownParent(f"parent {header.parent.hex()} is not known")
        check_link(parent, header)
        branch, fork = self._branch(block)
        self._check_depth(fork)
        self._check_stateless(block)
        if header.height <= self.tip.height:
            self._side.add(block)
            return Outcome(Status.SIDE)
        return self._switch(fork, branch)

    def extend(self, blocks: Sequence[Block]) -> None:
        """Append blocks that follow the tip one after another, in one synced write.

        The caller has checked their form and their signatures. Raises Invalid as `add_block` does; the blocks before
        the one at fault are then in the chain.
        """
        parent = self.tip
        for number, block in enumerate(blocks):
            try:
                if block.header.parent != parent.id:
                    raise UnknownParent(f"block {block.id.hex()} does not follow the one before")
                check_link(parent, block.header)
                self.checkpoints.check(block.header)
            except Invalid:
                self._connect(blocks[:number])
                raise
            parent = block.header
        self._connect(blocks)

    def is_deep(self, fork: Header) -> bool:
        """Whether length does not decide about a branch that leaves the best chain after `fork`."""
        return self.tip.slot - fork.slot > self.rules.parameters.max_rollback or fork.height <= self.decided

    def rewind(self, fork: Header) -> None:
        """Take back the blocks after `fork`, a block of the best chain, the newest first, some hundred to a write.

        Raises TooDeep where an undo record is gone; nothing has changed then. After a crash the tip is one between.
        """
        self._check_undo(fork)
        while self.tip.id != fork.id:
            target = self.canonical(max(fork.height, self.tip.height - _UNDONE_AT_ONCE))
            state, nodes = Overlay(self.store.state), Overlay(self.store.nodes)
            self.undo(target, state, nodes)
            self.store.commit(TipChange(self._newest_to(target), (), state.changes, nodes.changes))
            self.tip = target

    def undo(self, fork: Header, state: Overlay, nodes: Overlay) -> None:
        """Write the state after `fork`, a block of the best chain, to overlays on the present one; raises TooDeep."""
        for height in range(self.tip.height, fork.height, -1):
            undo = self.store.undo(height)
            if undo is None:
                raise TooDeep(f"the undo record of height {height} is pruned")
            state.changes.update(undo)
        if self.tip.id == fork.id:
            return
        with self._intact_tree():
            root = update(nodes, state.changes)
        if root != fork.state_root:
            raise self.store.damaged(f"the undo records do not lead back to the state at height {fork.height}")

    def execute(self, parent: Header, state: Overlay, nodes: Overlay, block: Block, last: Block) -> Changes:
        """Apply `block`, on the way to `last`, to overlays with the state after `parent`; returns its undo record.

        Raises Invalid; a block that breaks a rule is remembered as invalid, with those that follow it.
        """
        try:
            return self._execute(parent, state, nodes, block)
        except Reject:
            self._side.mark_bad(block.id)
            self._side.mark_bad_child(last.id)
            raise

    def _check_stateless(self, block: Block) -> None:
        """Check what takes no state: form and signatures; raises Invalid."""
        check_stateless(self.rules, block, self.verified)

    def _check_depth(self, fork: Header) -> None:
        """Raise TooDeep where length does not decide about a branch that leaves after `fork`."""
        self.checkpoints.check_fork(self.tip, fork)
        if self.is_deep(fork):
            depth = self.tip.slot - fork.slot
            raise TooDeep(f"the branch forks {depth} slots back, the limit is {self.rules.parameters.max_rollback}")

    def _check_undo(self, fork: Header) -> None:
        lowest = self.store.lowest_undo()
        if self.tip.id != fork.id and (lowest is None or lowest > fork.height + 1):
            raise TooDeep(f"the blocks after height {fork.height} can no longer be undone")

    def _connect(self, blocks: Sequence[Block]) -> None:
        if not blocks:
            return
        try:
            self._switch(self.tip, list(blocks))
        except Invalid:
            if len(blocks) > 1:
                for block in blocks:
                    self._connect([block])
            raise

    def _branch(self, block: Block) -> tuple[list[Block], Header]:
        """Blocks from the fork to `block`, oldest first, and the header on the best chain that they fork from."""
        branch = [block]
        while (parent := self._side.get(branch[-1].header.parent)) is not None:
            branch.append(parent)
        branch.reverse()
        return branch, self._canonical_header(branch[0].header.parent)

    def _switch(self, fork: Header, branch: list[Block]) -> Outcome:
        """Undo the best chain back to `fork`, apply `branch`, write both together."""
        state, nodes = Overlay(self.store.state), Overlay(self.store.nodes)
        self.undo(fork, state, nodes)
        connected = self._execute_all(fork, state, nodes, branch)
        disconnected = self._newest_to(fork)
        prune_below = self._prune_below(fork, branch)
        change = TipChange(disconnected, tuple(connected), state.changes, nodes.changes, prune_below)
        self.store.commit(change)
        self.tip = branch[-1].header
        for block in branch:
            self._side.remove(block.id)
        for block in reversed(disconnected):
            self._side.add(block)
        if len(self._side):
            self._side.prune(self.tip.slot - self.rules.parameters.max_rollback)
        status = Status.REORG if disconnected else Status.EXTENDED
        return Outcome(status, tuple(branch), disconnected)

    def _execute_all(
        self, parent: Header, state: Overlay, nodes: Overlay, branch: Sequence[Block]
    ) -> list[tuple[Block, Changes]]:
        """Apply `branch` to the overlays; return its blocks with their undo records."""
        connected: list[tuple[Block, Changes]] = []
        for block in branch:
            connected.append((block, self.execute(parent, state, nodes, block, branch[-1])))
            parent = block.header
        return connected

    def _execute(self, parent: Header, state: Overlay, nodes: Overlay, block: Block) -> dict[bytes, bytes | None]:
        """Apply one block to the overlays; return its undo record."""
        layer = Overlay(state)
        apply_block(self.rules, parent, layer, block)
        undo: dict[bytes, bytes | None] = {}
        changes: dict[bytes, bytes | None] = {}
        for key, value in layer.changes.items():
            old = state.get(key)
            if old != value:
                undo[key] = old
                changes[key] = value
        with self._intact_tree():
            root = update(nodes, changes)
        if root != block.header.state_root:
            raise BadBlock("the state root does not fit the state after the block", "bad_state_root")
        state.changes.update(changes)
        return undo

    def _prune_below(self, fork: Header, branch: Sequence[Block]) -> int:
        """Height below which no undo record is needed, with a margin for a tip whose slot moves back in a reorg."""
        tip = branch[-1].header
        oldest = tip.slot if self.horizon is None else min(tip.slot, self.horizon)
        floor = oldest - 2 * self.rules.parameters.max_rollback
        lowest = self.store.lowest_undo() if floor > 0 else None
        if lowest is None:
            return 0
        end = min(tip.height - 1, lowest + _PRUNED_AT_ONCE)
        while lowest < end:
            new = lowest - fork.height
            header = branch[new - 1].header if new > 0 else self.canonical(lowest)
            if header.slot >= floor:
                break
            lowest += 1
        return lowest

    def draft(
        self,
        slot: int,
        seat: bytes,
        minter: bytes,
        candidates: Iterable[Transaction],
        deadline: Deadline | None = None,
    ) -> tuple[Header, tuple[Transaction, ...]]:
        """An unsigned block on the tip: its header (sign it with `Header.signed`) and transactions, coinbase first.

        Takes from `candidates`, in order, what applies and fits, until `deadline`; what follows takes time with the
        number chosen only. Changes nothing.
        """
        if slot <= self.tip.slot:
            raise ValueError(f"slot {slot} is not after the tip's {self.tip.slot}")
        context = BlockContext(self.tip.height + 1, slot, self.tip.id, seat)
        most = self.rules.parameters.max_block_bytes
        room = most - self._reserve
        while True:
            draft = draft_block(self.rules, self.store.state, context, candidates, room, deadline)
            root = transactions_root(draft.transactions)
            header = Header(VERSION, context.height, slot, self.tip.id, root, EMPTY, seat, minter, bytes(64))
            size = len(Block(header, draft.transactions).raw)
            self._reserve = size - sum(len(transaction.raw) for transaction in draft.transactions[1:])
            if size <= most or room < 0:
                break
            room -= size - most
            candidates, deadline = draft.transactions[1:], None
        state_root = update(Overlay(self.store.nodes), draft.state.changes)
        return dataclasses.replace(header, state_root=state_root), draft.transactions

    def has(self, block_id: bytes) -> bool:
        """Whether a block is known, on the best chain or on a side branch."""
        return block_id in self._side or self.store.has(block_id)

    def header(self, block_id: bytes) -> Header | None:
        """Header of a known block, on the best chain or on a side branch."""
        side = self._side.get(block_id)
        return self.store.header(block_id) if side is None else side.header

    def block(self, block_id: bytes) -> Block | None:
        """A known block, on the best chain or on a side branch."""
        return self._side.get(block_id) or self.store.block(block_id)

    def id_at(self, height: int) -> bytes | None:
        """Id of the block of the best chain at `height`; None beyond the tip."""
        return self.store.id_at(height)

    def block_at(self, height: int) -> Block | None:
        """Block of the best chain at `height`; None beyond the tip."""
        block_id = self.store.id_at(height)
        return None if block_id is None else self._canonical_block(block_id)

    def locator(self) -> list[bytes]:
        """Ids that tell a peer where this chain is: dense near the tip, then in growing steps, genesis last."""
        ids: list[bytes] = []
        height, step = self.tip.height, 1
        while height > 0 and height >= self.store.base:
            ids.append(self._canonical_id(height))
            if len(ids) >= _DENSE:
                step *= 2
            height -= step
        return [*ids, self.genesis.id]

    def after(self, locator: Sequence[bytes], limit_blocks: int, limit_bytes: int) -> list[Block]:
        """Blocks of the best chain after the first id of `locator` that is on it; none where none is.

        At most `limit_blocks` and, beyond the first block, `limit_bytes` of canonical bytes.
        """
        blocks: list[Block] = []
        used = 0
        for height in self._heights_after(locator, limit_blocks):
            block = self._canonical_block(self._canonical_id(height))
            used += len(block.raw)
            if blocks and used > limit_bytes:
                break
            blocks.append(block)
        return blocks

    def headers_after(self, locator: Sequence[bytes], limit: int) -> list[Header]:
        """Headers of the best chain after the first id of `locator` that is on it, at most `limit`; see `after`."""
        return [self.canonical(height) for height in self._heights_after(locator, limit)]

    def _heights_after(self, locator: Sequence[bytes], limit: int) -> range:
        """At most `limit` heights after the first id of `locator` that is on the best chain; none where none is."""
        common = next((header for i in locator[:_MAX_LOCATOR] if (header := self.store.header(i)) is not None), None)
        if common is None or common.height + 1 < self.store.base:
            return range(0)  # before a restored state there are no blocks
        return range(common.height + 1, min(self.tip.height, common.height + limit) + 1)

    def canonical(self, height: int) -> Header:
        """Header of the block of the best chain at `height`, which must be there."""
        return self._canonical_header(self._canonical_id(height))

    def transaction(self, transaction_id: bytes) -> tuple[Transaction, int, int] | None:
        """A transaction of the best chain with its height and its index in the block."""
        position = self.store.position(transaction_id)
        return None if position is None else self._transaction_at(*position)

    def address_history(
        self, address: bytes, limit: int, before: tuple[int, int] | None = None
    ) -> list[tuple[Transaction, int, int]]:
        """The newest `limit` transactions that name `address`, newest first, each with height and index.

        With `before`, a height and an index, only those that stand before that place.
        """
        places = islice(self.store.history(address, before), limit)
        return [self._transaction_at(height, index) for height, index in places]

    def prove(self, keys: Iterable[bytes]) -> StateProof:
        """What the state after the tip holds at each of `keys`, with the proof under the tip's header."""
        with self._intact_tree():
            return prove_state(self.tip, self.store.state, self.store.nodes, keys)

    def verify(self) -> list[str]:
        """Check the whole database against itself; returns what is wrong, nothing where all is well."""
        return list(verify_store(self.store))

    @contextmanager
    def _intact_tree(self) -> Iterator[None]:
        """Around what reads the state tree."""
        try:
            yield
        except BrokenTree as error:
            raise self.store.damaged(f"the state tree has a hole ({error})") from error

    def _transaction_at(self, height: int, index: int) -> tuple[Transaction, int, int]:
        block = self._canonical_block(self._canonical_id(height))
        if index >= len(block.transactions):
            raise self.store.damaged(f"an index names transaction {index} at height {height}")
        return block.transactions[index], height, index

    def _newest_to(self, fork: Header) -> tuple[Block, ...]:
        """Blocks of the best chain after `fork`, one of its blocks; the newest first."""
        heights = range(self.tip.height, fork.height, -1)
        return tuple(self._canonical_block(self._canonical_id(height)) for height in heights)

    def _canonical_id(self, height: int) -> bytes:
        block_id = self.store.id_at(height)
        if block_id is None:
            raise self.store.damaged(f"no block at height {height}")
        return block_id

    def _canonical_header(self, block_id: bytes) -> Header:
        header = self.store.header(block_id)
        if header is None:
            raise self.store.damaged(f"block {block_id.hex()} has no header")
        return header

    def _canonical_block(self, block_id: bytes) -> Block:
        block = self.store.block(block_id)
        if block is None:
            raise self.store.damaged(f"block {block_id.hex()} is missing")
        return block


def make_genesis(rules: Rules) -> tuple[Header, dict[bytes, bytes | None], dict[bytes, bytes | None]]:
    """Genesis header with its state root, the genesis state and its tree."""
    state, nodes = Overlay(EmptyState()), Overlay(EmptyState())
    header = rules.genesis(state)
    header = dataclasses.replace(header, state_root=update(nodes, state.changes))
    return header, state.changes, nodes.changes


def check_link(parent: Header, header: Header) -> None:
    """What a header must keep to be worth a closer look. Cheap."""
    if header.height != parent.height + 1:
        raise BadBlock(f"height {header.height} after {parent.height}", "bad_height")
    if header.slot <= parent.slot:
        raise BadBlock(f"slot {header.slot} is not after the parent's {parent.slot}", "bad_slot")
