"""What a miner asked a pool, and waits to hear."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from chain.encoding import Record
from ponas_node.miner.link import LinkError, PoolLink

K = TypeVar("K")


class Answers(Generic[K]):
    """One question at a time for each key."""

    def __init__(self) -> None:
        self._waiting: dict[K, asyncio.Future[Record]] = {}

    async def ask(self, link: PoolLink, question: Record, key: K, seconds: float) -> Record:
        """Send a question, and wait for its answer. Raises LinkError, TimeoutError."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        await link.send(question)
        async with asyncio.timeout(seconds):
            return await future

    def take(self, key: K, answer: Record) -> None:
        """The pool answered; whoever does not wait any more misses it."""
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def disconnected(self) -> None:
        """Nothing will be answered any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkError("the connection was lost"))
        self._waiting.clear()
