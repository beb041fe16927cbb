"""A process that keeps writing to a database, in every way that there is, until it is killed or kills itself.

Before each write that it begins and after each that it has done it passes a boundary. It tells through a pipe what it
knows to be on disk: each tip, and the last number that it has put beside the chain.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chain import failures, layout, migration, store
from chain.chain import Chain
from chain.store import Store
from chain.types import Block
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, USERS, TestRules, transfer

NAME = b"crash"
NUMBER = b"number"


class Boundaries:
    """Counts the boundaries; at the one numbered `last` the process kills itself."""

    def __init__(self, pipe: Connection, last: int | None) -> None:
        self._pipe = pipe
        self._left = last

    @contextmanager
    def around(self) -> Iterator[None]:
        """Around one write."""
        self._pass("before")
        yield
        self._pass("after")

    def _pass(self, where: str) -> None:
        if self._left == 0:
            self._pipe.send(("killed", where))
            os.kill(os.getpid(), signal.SIGKILL)
        if self._left is not None:
            self._left -= 1


def watch_writes(boundaries: Boundaries) -> None:
    """Pass a boundary before and after every write: what opening a database writes, and what goes through a guard."""
    writing = failures.Guard.writing

    @contextmanager
    def watched(guard: failures.Guard) -> Iterator[None]:
        with boundaries.around(), writing(guard):
            yield

    def check_meta(database: Any, path: Path, network: bytes) -> None:
        with boundaries.around():
            migration.check_meta(database, path, network)

    failures.Guard.writing = watched
    store.check_meta = check_meta


def work(path: str, pipe: Connection, last: int | None, rounds: int | None) -> None:
    """Write for so many rounds, or without end; die at the boundary `last`."""
    watch_writes(Boundaries(pipe, last))
    chain = Chain(Store(path, NETWORK), TestRules())
    notes = chain.store.namespace(NAME)
    number = int.from_bytes(notes.get(NUMBER) or b"", "big")
    builder = Builder(chain.rules)
    builder.states[chain.tip.id] = dict(chain.store.state.items())

    def tell() -> None:
        pipe.send(("tip", chain.height, chain.tip.id, number))

    tell()
    done = 0
    while rounds is None or done < rounds:
        for block in fork(builder, chain):
            if chain.add_block(block).connected:
                tell()
        builder.forget({chain.tip.id})
        with notes.batch() as batch:
            batch.put(NUMBER, (number + 1).to_bytes(8, "big"))
            batch.put(b"copy", (number + 1).to_bytes(8, "big"))
        number += 1
        tell()
        if number % 5 == 2:
            chain.store.write([(layout.META_INDEXES, None)])
            chain.store.use_index(chain.store.index)
            chain.store.compact()
        done += 1
    chain.store.close()


def fork(builder: Builder, chain: Chain) -> list[Block]:
    """A block on the tip, and three that take its place."""
    base = chain.tip
    payment = transfer(USERS[0], chain.height // 3, USERS[1].address, 1)
    blocks = [builder.mint(base, base.slot + 1, [payment])]
    parent = base
    for slot in (2, 3, 4):
        blocks.append(builder.mint(parent, base.slot + slot, [payment] if parent is base else []))
        parent = blocks[-1].header
    return blocks
