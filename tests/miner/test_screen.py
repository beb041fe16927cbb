"""The screen of `ponas mine`, drawn from the state that a member reports; and the number of slots that fit."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import random
import sys
import time

import pytest
from rich.console import Console

from chain.artifact import artifact_id
from ponas_node.miner.executor import NoExecutor
from ponas_node.miner.local import LocalExecutor, physical_cores
from ponas_node.miner.screen import MOST_SLOTS, render
from ponas_node.miner.state import MinerState
from pool.messages import Standing
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.pool.kit import make_settings, make_work
from tests.pool.rig import DATASET, Site, until


def drawn(state: MinerState) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(state))
    return console.export_text()


def test_it_shows_what_happens():
    state = MinerState(url="http://pool:8645")
    assert "not connected to http://pool:8645" in drawn(state)
    state.connect(True)
    state.epoch, state.task = 7, "digits"
    state.training(0, "conv 3x3 16", b"x", 600)
    state.stepped(0, 300)
    state.training(1)
    state.finished(350, 400, "conv 5x5 8")
    state.accepted, state.points = 12, 3456
    state.rejected["duplicate"] += 2
    state.reasons.append("the pool has a result of this architecture already (duplicate)")
    state.stand(Standing(3, 40, 500, 20_000))
    state.say("share abc accepted: 99 points")
    text = drawn(state)
    for part in (
        "connected to http://pool:8645", "epoch 7", "digits", "conv 3x3 16", "300/600", "waits for a lease",
        "87.50% (350/400)", "conv 5x5 8", "12", "3456", "2 duplicate", "has a result of this architecture already",
        "place 3 of 40: 500 points, 2.50% of all", "share abc accepted",
    ):  # fmt: skip
        assert part in text, part


def test_many_slots_do_not_fill_the_screen():
    state = MinerState()
    for slot in range(200):
        state.training(slot, f"architecture {slot}", b"x", 10)
    text = drawn(state)
    assert f"and {200 - MOST_SLOTS} more" in text and f"architecture {MOST_SLOTS}" not in text
    assert len(text.splitlines()) < MOST_SLOTS + 30


async def test_slots_by_device():
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
    automatic = LocalExecutor(None)
    assert await automatic.start() == max(1, physical_cores() - 1) == len(automatic.workers)
    three, one = LocalExecutor(3), LocalExecutor(3, side_by_side=True)
    assert await three.start() == await one.start() == 3
    assert (len(three.workers), len(one.workers)) == (3, 1)
    with pytest.raises(NoExecutor, match="nowhere"):
        await LocalExecutor(2, "nowhere").start()
    for executor in (automatic, three, one):
        await executor.stop()


CODE = """
import asyncio, pathlib, sys
from ponas_node.miner.command import run_member
from tests.pool.kit import key
from tests.pool.rig import FakeExecutor
sys.exit(asyncio.run(run_member([sys.argv[1]], key(1), pathlib.Path(sys.argv[2]), FakeExecutor(0.05), True)))
"""


async def test_the_screen_lives_on_a_terminal_and_shows_the_standing(tmp_path):
    site = Site(Pool(MemoryStorage(), make_settings(), random.Random(1)), tmp_path / "site")
    closes = float(int(time.time()) + 3600)
    await site.start(make_work(1, closes, dataset=artifact_id(DATASET), dataset_bytes=len(DATASET)))
    ours, theirs = pty.openpty()
    shown = bytearray()
    asyncio.get_running_loop().add_reader(ours, lambda: shown.extend(os.read(ours, 1 << 16)))
    command = [sys.executable, "-c", CODE, site.url, str(tmp_path / "m")]
    environment = dict(os.environ, TERM="xterm", COLUMNS="140", LINES="50")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    try:
        await until(lambda: b"place 1 of 1" in shown or process.returncode is not None, 60)
        assert b"connected to" in shown and b"best find" in shown
        process.terminate()
        assert await process.wait() == 0
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(theirs)
        await site.stop()
