"""Finished shares on their way: each goes to the pool that leased it, and to no other, until that answers for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ponas_node.miner.link import LinkError, PoolLink
from ponas_node.miner.outbox import Outbox
from ponas_node.miner.state import MinerState
from pool.messages import ShareAccepted, ShareRejected, ShareUpload

ANSWER_SECONDS = 120.0
RETRY_SECONDS = 2.0


class Delivery:
    """Keeps an outbox for each pool in `folder`, and empties that of the pool that is connected.

    `on_accepted` gets id and points of each share that the connected pool acknowledged.
    """

    def __init__(self, folder: Path, state: MinerState, on_accepted: Callable[[bytes, int], None]) -> None:
        self._folder = folder
        self._state = state
        self._on_accepted = on_accepted
        self._boxes: dict[bytes, Outbox] = {}
        self._sent: dict[bytes, tuple[Outbox, asyncio.Future[bool]]] = {}
        self._filled = asyncio.Event()

    def box(self, pool: bytes) -> Outbox:
        """The shares that wait for the pool with this address."""
        if pool not in self._boxes:
            self._boxes[pool] = Outbox(self._folder / pool.hex())
        return self._boxes[pool]

    def add(self, pool: bytes, upload: ShareUpload) -> None:
        """Keep a share that `pool` leased; durable when this returns."""
        self.box(pool).add(upload)
        self._filled.set()

    def take(self, message: ShareAccepted | ShareRejected) -> None:
        """The pool answered; settled at once, as the connection may end with this message."""
        box, future = self._sent.pop(message.share, (None, None))
        if box is not None and future is not None:
            settled = self._settle(box, message)
            if not future.done():
                future.set_result(settled)

    async def run(self, link: PoolLink) -> None:
        """Send what waits for this pool, for as long as the connection lasts."""
        box = self.box(link.pool)
        while True:
            upload = box.next()
            self._state.waiting = len(box)
            if upload is None:
                self._filled.clear()
                await self._filled.wait()
                continue
            id = upload.signed.share.id
            if len(upload.model) > link.hello.max_model_bytes:
                self._settle(box, ShareRejected(id, "model_too_large", "larger than the pool takes", False))
                continue
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._sent[id] = box, future
            try:
                await link.upload(upload)
                async with asyncio.timeout(ANSWER_SECONDS):
                    settled = await future
            except (LinkError, TimeoutError):
                await link.close()  # the share stays in the outbox, and goes out again on the next connection
                return
            if not settled:
                await asyncio.sleep(RETRY_SECONDS)

    def disconnected(self) -> None:
        """Nothing that was sent will be answered any more."""
        self._sent.clear()

    def _settle(self, box: Outbox, answer: ShareAccepted | ShareRejected) -> bool:
        """Take the pool's answer to a share; False where it must be sent again."""
        state, name = self._state, answer.share.hex()[:12]
        if isinstance(answer, ShareRejected):
            if answer.retry:
                state.say(f"share {name} will be sent again: {answer.reason}")
                return False
            state.rejected[answer.code] += 1
            state.reasons.append(f"{answer.reason} ({answer.code})")
            state.say(f"share {name} rejected: {answer.reason} ({answer.code})", warn=True)
        else:
            self._on_accepted(answer.share, answer.points)
            state.accepted += 1
            state.points += answer.points
            state.say(f"share {name} accepted: {answer.points} points")
        box.done(answer.share)
        return True
