"""Computes the beacon in a process of its own; stops as soon as the beacon is known from elsewhere."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chain import accounts
from chain.errors import Invalid
from chain.types import Kind, sign_transaction
from consensus import records
from consensus.types import BeaconBody
from ponas_node.worker import Worker, WorkerDied, WorkerError

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_POLL = 0.25  # seconds


class Prover:
    """Proves the beacon of each epoch, `delay` slots after it could."""

    def __init__(self, node: Node, delay: int) -> None:
        self._node = node
        self._delay = delay
        self._worker = Worker("prover", memory_mb=1024)
        self._done: tuple[bytes, bytes] | None = None  # (boundary, output) last computed
        self.proven = 0

    async def run(self) -> None:
        """Prove for ever."""
        while True:
            await asyncio.sleep(_POLL)
            target = self._target()
            if target is None:
                continue
            epoch, boundary = target
            try:
                output = await self._prove(boundary)
                if output is not None and self._target() == target:
                    await self._submit(epoch, output)
            except (WorkerDied, WorkerError, Invalid) as error:
                log.warning("beacon of epoch %d: %s", epoch, error)
                await asyncio.sleep(1)

    async def stop(self) -> None:
        """End the process."""
        await self._worker.stop()

    def _target(self) -> tuple[int, bytes] | None:
        """(epoch, boundary block) whose beacon is due and unknown here, or None."""
        node, parameters = self._node, self._node.genesis.consensus
        epoch = records.current_epoch(node.chain.state)
        closed = parameters.boundary_slot(epoch.number, bool(epoch.sealed))
        last = parameters.start(epoch.number) + parameters.reveal_open + parameters.beacon_grace
        if epoch.beacon or not closed + 1 + self._delay <= node.slot() < last:
            return None
        if any(transaction.kind == Kind.BEACON for transaction in node.mempool.best_first()):
            return None  # only what is ready was verified: anyone may park a false one behind a missing nonce
        return epoch.number, epoch.boundary or node.chain.tip.id

    async def _prove(self, boundary: bytes) -> bytes | None:
        if self._done is not None and self._done[0] == boundary:
            return self._done[1]
        parameters = self._node.genesis.consensus
        call = self._worker.call(
            "prove_beacon", boundary, parameters.vdf_discriminant_bits, parameters.vdf_iterations, timeout=3600
        )
        job = asyncio.create_task(call)
        try:
            while not job.done():
                await asyncio.wait([job], timeout=_POLL)
                target = self._target()
                if not job.done() and (target is None or target[1] != boundary):
                    return None
        finally:
            if not job.done():
                job.cancel()
                await asyncio.wait([job])  # unlike awaiting the job, this lets a cancellation of our own through
        output: bytes = job.result()
        self._done = (boundary, output)
        return output

    async def _submit(self, epoch: int, output: bytes) -> None:
        node = self._node
        nonce = accounts.account(node.chain.state, node.node_key.address).nonce
        if node.next_nonce(node.node_key.address) != nonce:
            return  # one of ours for another boundary is in its place, and goes once it is found false
        body = BeaconBody(epoch, output)
        await node.submit_transaction(sign_transaction(node.node_key, node.network, Kind.BEACON, nonce, 0, body))
        self.proven += 1
        log.info("proved the beacon of epoch %d", epoch)
