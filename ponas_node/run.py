"""Runs a node until it is told to stop, or until a part of it fails."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable

from chain.collector import collect_less
from chain.keys import PrivateKey
from consensus.genesis import Genesis
from ponas_node.auditor import Auditor
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from ponas_node.services import PoolService, SoloService
from ponas_node.unsealer import Unsealer
from ponas_node.witness import Witness


def build_node(
    config: NodeConfig, genesis: Genesis, key: PrivateKey | None, clock: Callable[[], float] = time.time
) -> Node:
    """A node with the services that its configuration asks for, not started yet."""
    node = Node(config, genesis, key, clock)
    if key is not None and config.pool:
        node.services.append(PoolService(node, key))
    if key is not None and config.solo:
        node.services.append(SoloService(node, key))
    if key is not None:
        node.services.extend([Auditor(node, key), Witness(node, key)])
        if config.splits:
            node.services.append(Unsealer(node, key, config.splits))
    return node


async def run_node(config: NodeConfig, genesis: Genesis, key: PrivateKey | None, ready: Callable[[Node], None]) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; calls `ready` once the ports are open. Answers the exit code."""
    collect_less()
    node = build_node(config, genesis, key)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        await node.start()
        ready(node)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(node.failed.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    finally:
        await node.stop()
    return 1 if node.failed.is_set() else 0


def configure_logging(verbose: bool = False) -> None:
    """Log lines with time and level on standard error."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
