"""A pool or a miner as a process, to be killed: python -m tests.pool.processes pool|miner FOLDER PORT [CLOSES]."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import plyvel

from chain.artifact import artifact_id
from chain.failures import Guard
from chain.namespace import Namespace
from ponas_node.miner.member import PoolMember
from pool.pool import Pool
from pool.storage import NamespaceStorage
from tests.pool.kit import key, make_settings, make_work
from tests.pool.rig import BACKOFF, DATASET, FakeExecutor, Site


def open_storage(folder: Path) -> tuple[plyvel.DB, NamespaceStorage]:
    db = plyvel.DB(str(folder / "db"), create_if_missing=True)
    return db, NamespaceStorage(Namespace(db, b"pool", Guard(folder)))


def the_work(closes: float):
    return make_work(1, closes, dataset=artifact_id(DATASET), dataset_bytes=len(DATASET))


async def serve(folder: Path, port: int, closes: float) -> None:
    _, storage = open_storage(folder)
    site = Site(Pool(storage, make_settings(silence_seconds=2.0), random.Random()), folder / "artifacts")
    site.port = port
    await site.start(the_work(closes))
    await asyncio.Event().wait()


async def mine(folder: Path, port: int) -> None:
    await PoolMember(f"http://127.0.0.1:{port}", key(1), folder, FakeExecutor(0.02), backoff=BACKOFF).run()


if __name__ == "__main__":
    folder, port = Path(sys.argv[2]), int(sys.argv[3])
    asyncio.run(serve(folder, port, float(sys.argv[4])) if sys.argv[1] == "pool" else mine(folder, port))
