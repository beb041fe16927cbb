"""Takes raw blocks into a chain, and establishes the facts that they need from what is on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from chain.chain import Chain
from chain.errors import BadEncoding, Invalid, Missing
from chain.importing import Importer
from chain.store import Store
from chain.types import Block
from consensus.facts import facts_of
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from ponas_node.artifacts import ArtifactStore
from ponas_node.datasets import provide_built_in
from ponas_node.oracle import FOR_BLOCK, Oracle, Unavailable

_ROUNDS = 64  # times that facts are established for one block before it is given up


class Stopped(Exception):
    """A block could not be taken; those before it are. The message says which one and why."""


class StoredFacts:
    """The facts that a node has established, read from its database. Serves the rules; establishes nothing."""

    def __init__(self, store: Store) -> None:
        self._facts = store.facts

    def get(self, key: bytes) -> int | None:
        """Answer of a fact, or None where it is not known."""
        value = self._facts.get(key)
        return None if value is None else int.from_bytes(value, "big", signed=True)


class Feeder:
    """One chain that blocks are fed to. The facts go into the store; artifacts come from `artifacts` alone.

    `workers`: processes that verify signatures beside this one.
    """

    def __init__(self, store: Store, genesis: Genesis, artifacts: Path, workers: int = 0, device: str = "cpu") -> None:
        self._genesis = genesis
        self._artifacts = ArtifactStore(artifacts)
        self._oracle = Oracle(store.facts, self._artifacts, _nowhere, device)
        self._workers = workers
        self._prepared = False
        self._rounds = (0, 0)  # a height, and how often facts were established for the block after it
        self.chain = Chain(store, ConsensusRules(genesis, self._oracle))
        self.added = 0

    def feed(self, blocks: Iterable[bytes], progress: Callable[[int], None]) -> None:
        """Add the blocks in order; raises Stopped. `progress` gets the height after each write."""
        with asyncio.Runner() as runner:
            importer = Importer(self.chain, self._workers, progress, lambda missing: self._establish(runner, missing))
            try:
                importer.run(blocks)
            except BadEncoding as error:
                if importer.refused is None:
                    raise Stopped(f"After height {self.chain.height} comes what is no block: {error}.") from error
                raise _refused(importer.refused, error) from error
            except Invalid as error:
                raise _refused(importer.refused, error) from error
            finally:
                self.added += importer.added
                runner.run(self._oracle.stop())

    def _establish(self, runner: asyncio.Runner, missing: Missing) -> None:
        """Learn the facts that the block after the tip needs; raises Stopped."""
        height = self.chain.height
        rounds = self._rounds[1] + 1 if self._rounds[0] == height else 1
        if rounds > _ROUNDS:
            raise Stopped(f"The facts that the block at height {height + 1} needs keep changing.")
        self._rounds = (height, rounds)
        if not self._prepared:
            provide_built_in(self._genesis, self._artifacts)
            self._prepared = True
        for fact in facts_of(missing):
            try:
                runner.run(self._oracle.establish(fact, FOR_BLOCK))
            except Unavailable as error:
                raise Stopped(
                    f"The block at height {height + 1} could not be checked: {error}. Copy the missing file "
                    f"into {self._artifacts.root} from a node that has it and try again, or start this node with a "
                    "peer: it goes on from here by itself."
                ) from error


def _refused(block: Block | None, error: Invalid) -> Stopped:
    where = "A block" if block is None else f"Block {block.id.hex()[:16]} at height {block.header.height}"
    return Stopped(f"{where} was refused ({error.code}): {error}.")


async def _nowhere(id: bytes, size: int, hint: bytes | None) -> bool:
    """There are no peers to fetch an artifact from."""
    return False
