"""Transactions on their way into the mempool. Some must first be evaluated, which may outlast the request."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from chain.errors import Invalid
from chain.types import Transaction
from ponas_node.api.errors import ApiError
from ponas_node.api.view import NodeView

log = logging.getLogger(__name__)


class Submissions:
    """Hands transactions to the node. The node goes on checking one whose client has been answered or has left."""

    def __init__(self, view: NodeView, patience: float, most: int) -> None:
        self._view = view
        self._patience = patience
        self._most = most
        self._running: dict[bytes, asyncio.Task[None]] = {}

    async def submit(self, transaction: Transaction) -> bool:
        """Submit and wait for the verdict for a while; False where it is still being checked.

        Raises Invalid where it is refused, ApiError 503 where too many are being checked.
        """
        task = self._running.get(transaction.id)
        if task is None:
            if len(self._running) >= self._most:
                raise ApiError(503, "busy", "The node is checking many transactions; send it again.", retry_after=5)
            task = asyncio.create_task(self._view.submit_transaction(transaction))
            self._running[transaction.id] = task
            task.add_done_callback(lambda done: self._finish(transaction.id, done))
        done, _ = await asyncio.wait({task}, timeout=self._patience)
        if done:
            task.result()
        return bool(done)

    def _finish(self, id: bytes, task: asyncio.Task[None]) -> None:
        del self._running[id]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, Invalid):
            log.error("transaction %s could not be checked", id.hex(), exc_info=error)

    async def stop(self) -> None:
        """Give up what is still being checked."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


SUBMISSIONS: web.AppKey[Submissions] = web.AppKey("submissions", Submissions)
