"""Runs a member of a pool until it is told to stop, with a screen where there is a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from chain.keys import PrivateKey
from ponas_node.miner.cluster import RayExecutor
from ponas_node.miner.executor import STATE_SECONDS, Executor, NoExecutor
from ponas_node.miner.folder import DataInUse
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from ponas_node.miner.screen import render
from ponas_node.miner.state import MinerState

log = logging.getLogger(__name__)
REDRAWN = 2
"""Times a second."""


def make_executor(kind: str, address: str, slots: int | None, device: str) -> Executor:
    """The executor that `--executor` names."""
    return RayExecutor(address, slots, device) if kind == "ray" else LocalExecutor(slots, device)


async def run_member(
    urls: Sequence[str],
    key: PrivateKey,
    data: Path,
    executor: Executor,
    screen: bool = False,
    state_seconds: float | None = STATE_SECONDS,
) -> int:
    """`ponas mine --pool`: mine until SIGINT, SIGTERM or SIGHUP. Answers the exit code."""
    state = MinerState(watched=screen)
    try:
        member = PoolMember(urls[0], key, data, executor, state, fallbacks=urls[1:], state_seconds=state_seconds)
    except DataInUse as error:
        log.error("%s", error)
        return 1
    task = asyncio.create_task(member.run())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        with Live(console=Console(), auto_refresh=False, screen=True) if screen else contextlib.nullcontext() as live:
            while not task.done():
                if live is not None:
                    live.update(render(state), refresh=True)
                await asyncio.wait([task], timeout=1 / REDRAWN)
        await task
    except NoExecutor as error:
        log.error("%s", error)
        return 1
    except asyncio.CancelledError:
        pass
    return 0
