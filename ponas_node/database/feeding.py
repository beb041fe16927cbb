"""Takes raw blocks into a chain, and establishes the facts that they need from what is on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from chain.chain import Chain, Status
from chain.errors import BadEncoding, Invalid, Missing
from chain.store import Store
from chain.types import Block
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
        self._facts = store.namespace(b"facts")

    def get(self, key: bytes) -> int | None:
        """Answer of a fact, or None where it is not known."""
        value = self._facts.get(key)
        return None if value is None else int.from_bytes(value, "big", signed=True)


class Feeder:
    """One chain that blocks are fed to. The facts go into the store; artifacts come from `artifacts` alone."""

    def __init__(self, store: Store, genesis: Genesis, artifacts: Path, device: str = "cpu") -> None:
        self._genesis = genesis
        self._artifacts = ArtifactStore(artifacts)
        self._oracle = Oracle(store.namespace(b"facts"), self._artifacts, _nowhere, device)
        self._prepared = False
        self.chain = Chain(store, ConsensusRules(genesis, self._oracle))
        self.added = 0

    def feed(self, blocks: Iterable[bytes], progress: Callable[[int], None]) -> None:
        """Add the blocks in order; raises Stopped. `progress` gets the height after each."""
        asyncio.run(self._feed(blocks, progress))

    async def _feed(self, blocks: Iterable[bytes], progress: Callable[[int], None]) -> None:
        try:
            for raw in blocks:
                await self._add(raw)
                progress(self.chain.height)
        finally:
            await self._oracle.stop()

    async def _add(self, raw: bytes) -> None:
        block = None
        try:
            block = Block.decode(raw)
            for _ in range(_ROUNDS):
                try:
                    outcome = self.chain.add_block(block)
                except Missing as error:
                    await self._establish(error)
                else:
                    self.added += outcome.status is not Status.KNOWN
                    return
        except BadEncoding as error:
            raise Stopped(f"After height {self.chain.height} comes what is no block: {error}.") from error
        except Invalid as error:
            where = "a block" if block is None else f"block {block.id.hex()[:16]} at height {block.header.height}"
            raise Stopped(f"{where.capitalize()} was refused ({error.code}): {error}.") from error
        raise Stopped(f"The facts that block {block.id.hex()[:16]} needs keep changing.")

    async def _establish(self, missing: Missing) -> None:
        if not self._prepared:
            provide_built_in(self._genesis, self._artifacts)
            self._prepared = True
        for fact in missing.facts:
            try:
                await self._oracle.establish(fact, FOR_BLOCK)  # type: ignore[arg-type]
            except Unavailable as error:
                raise Stopped(
                    f"The block at height {self.chain.height + 1} could not be checked: {error}. Copy the missing file "
                    f"into {self._artifacts.root} from a node that has it and try again, or start this node with a "
                    "peer: it goes on from here by itself."
                ) from error


async def _nowhere(id: bytes, size: int, hint: bytes | None) -> bool:
    """There are no peers to fetch an artifact from."""
    return False
