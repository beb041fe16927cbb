"""How simulated nodes execute blocks: each by itself in a database of its own, or each distinct block once for all.

What a block does is a pure function of block and parent, so the result may be shared. Every node still has a `Chain` of
its own: its own tip, branches, side pool and choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from bench.simulation.states import Library, MemoryStore
from chain.chain import Chain
from chain.errors import BadBlock, Invalid, Reject
from chain.rules import Rules
from chain.state import Overlay
from chain.store import Store
from chain.types import Block, Header
from consensus import records
from consensus.rules import ConsensusRules

Seat = tuple[bytes, bytes]
"""Id of a seat, and the public key of its owner."""


class OwnExecution:
    """Every node executes every block, in a LevelDB of its own below `folder`."""

    def __init__(self, rules: ConsensusRules, folder: Path) -> None:
        self.rules = rules
        self._folder = folder

    def open(self, index: int) -> Chain:
        """The chain of node `index`, as its database has it."""
        path = self._folder / str(index)
        return Chain(Store(path, self.rules.network, durable=False), self.rules)

    def close(self, chain: Chain) -> None:
        """The node stops, or crashes: what is in the database stays."""
        chain.store.close()

    def leader(self, chain: Chain, slot: int) -> Seat:
        """Whose slot it is on top of the chain."""
        return leader_of(self.rules, chain, slot)


class SharedExecution:
    """Each distinct block is executed once; states live in memory and share what they have in common."""

    def __init__(self, rules: ConsensusRules) -> None:
        self.rules = rules
        self._library = Library()
        self._stores: dict[int, MemoryStore] = {}
        self._leaders: dict[tuple[bytes, int], Seat] = {}

    def open(self, index: int) -> Chain:
        """The chain of node `index`, as its store has it."""
        store = self._stores.setdefault(index, MemoryStore(self._library))
        return _SharedChain(cast(Store, store), self.rules, self._library)

    def close(self, chain: Chain) -> None:
        """The node stops, or crashes: its store stays."""

    def leader(self, chain: Chain, slot: int) -> Seat:
        """Whose slot it is on top of the chain: a pure function of the tip."""
        place = (chain.tip.id, slot)
        seat = self._leaders.get(place)
        if seat is None:
            seat = self._leaders[place] = leader_of(self.rules, chain, slot)
        return seat


Execution = OwnExecution | SharedExecution


def leader_of(rules: ConsensusRules, chain: Chain, slot: int) -> Seat:
    """Whose slot it is on top of the chain."""
    seat = rules.leader(chain.state, chain.tip, slot)
    holder = records.seat_holder(chain.state, seat)
    if holder is None:
        raise RuntimeError("the leader of a slot has no seat: a fault in the rules")
    return seat, holder[0]


class _SharedChain(Chain):
    """A chain whose executions are looked up first. Everything that chooses between branches is `Chain`'s own."""

    def __init__(self, store: Store, rules: Rules, library: Library) -> None:
        self._library = library
        super().__init__(store, rules)

    def _check_stateless(self, block: Block) -> None:
        checked = self._library.checked
        if block.raw not in checked:  # blocks of one id may hold different transactions
            try:
                super()._check_stateless(block)
            except Invalid as error:
                checked[block.raw] = type(error), str(error), error.code
            else:
                checked[block.raw] = None
        if (found := checked[block.raw]) is not None:
            kind, text, code = found
            raise kind(text, code)

    def undo(self, fork: Header, state: Overlay, nodes: Overlay) -> None:
        state.base, nodes.base = self._library.states[fork.id]

    def _execute(self, parent: Header, state: Overlay, nodes: Overlay, block: Block) -> dict[bytes, bytes | None]:
        refused = self._library.refused.get(block.id)
        if refused is not None:
            raise BadBlock(*refused)
        versions = self._library.states.get(block.id)
        if versions is None:
            try:
                super()._execute(parent, state, nodes, block)
            except Reject as error:
                self._library.refused[block.id] = str(error), error.code
                raise
            versions = self._library.add(block, state.changes, nodes.changes)
        state.base, nodes.base = versions
        state.changes, nodes.changes = {}, {}
        return {}
