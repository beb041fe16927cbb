"""kill -9 of a pool, and of a miner, at random moments: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from collections import Counter

import pytest

from ponas_node.miner.member import PoolMember
from ponas_node.miner.outbox import Outbox
from pool.messages import ShareAccepted
from pool.pool import Pool
from pool.storage import MemoryStorage
from tests.pool.kit import key, make_settings
from tests.pool.processes import open_storage, the_work
from tests.pool.rig import BACKOFF, FakeExecutor, Site, running, until

KILLS = 3
POOL = key(99).address


class Witness(PoolMember):
    """A member that remembers which shares the pool acknowledged."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.acknowledged: list[bytes] = []

    def _take(self, message):
        if isinstance(message, ShareAccepted):
            self.acknowledged.append(message.share)
        super()._take(message)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def spawn(*arguments):
    command = [sys.executable, "-m", "tests.pool.processes", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command)


async def kill(process) -> None:
    process.kill()
    await process.wait()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_pool_killed_at_random_moments(tmp_path, kills):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng, port, closes = random.Random(seed), free_port(), float(int(time.time()) + 3600)
    members = [
        Witness(f"http://127.0.0.1:{port}", key(i), tmp_path / str(i), FakeExecutor(0.02), backoff=BACKOFF)
        for i in range(2)
    ]
    async with running(*members):
        for number in range(1, kills + 1):
            process = await spawn("pool", tmp_path, port, closes)
            try:
                await until(lambda wanted=number * 3: all(len(member.acknowledged) >= wanted for member in members), 40)
                await asyncio.sleep(rng.random() / 5)
            finally:
                await kill(process)
    db, storage = open_storage(tmp_path)
    pool = Pool(storage, make_settings(), rng)
    for member, signer in zip(members, (key(0), key(1)), strict=True):
        assert sum(member.state.rejected.values()) == 0
        ids = Counter(member.acknowledged)
        assert max(ids.values()) == 1
        assert len(ids) >= 3 * kills
        view = pool.member(signer.address)
        waiting = len(Outbox(tmp_path / str(members.index(member)) / "outbox" / POOL.hex()))
        assert len(ids) <= view.shares <= len(ids) + waiting
        assert view.earned == sum(
            pool.work.points(found.validation_correct) for found in pool.archive if found.finder == signer.address
        )
    db.close()


async def test_miner_killed_at_random_moments(tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng, closes = random.Random(seed), float(int(time.time()) + 3600)
    site = Site(Pool(MemoryStorage(), make_settings(silence_seconds=2.0), rng), tmp_path / "site")
    await site.start(the_work(closes))
    folder = tmp_path / "miner"
    address = key(1).address
    for _ in range(KILLS):
        before = len(site.pool.archive)
        process = await spawn("miner", folder, site.port)
        try:
            await until(lambda wanted=before + 3: len(site.pool.archive) >= wanted, 40)
            await asyncio.sleep(rng.random() / 5)
        finally:
            await kill(process)
    last = PoolMember(site.url, key(1), folder, FakeExecutor(3600), backoff=BACKOFF)
    outbox = last._delivery.box(POOL)
    left = len(outbox)
    async with running(last):
        await until(lambda: last.state.connected and not len(outbox))
    assert last.state.accepted == left
    view = site.pool.member(address)
    assert view.shares == len(site.pool.archive)
    assert not view.rejections
    await site.stop()


async def test_the_command_ends_on_a_signal_and_says_why_it_waits(tmp_path):
    code = (
        "import asyncio, logging, pathlib, sys\n"
        "from ponas_node.miner.command import run_member\n"
        "from ponas_node.miner.local import LocalExecutor\n"
        "from tests.pool.kit import key\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "sys.exit(asyncio.run(run_member(['http://127.0.0.1:9'], key(1), folder, LocalExecutor())))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stderr=asyncio.subprocess.PIPE
    )
    line = b""
    async with asyncio.timeout(40):
        while b"not connected" not in line:
            line = await process.stderr.readline()
            assert line, "the miner ended before it said anything"
        process.terminate()
        assert await process.wait() == 0
    assert b"cannot connect" in line
    assert b"next try at" in line
