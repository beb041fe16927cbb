"""A pool with very many members over real sockets: shares accounted, lease latency, memory.

Real: handshakes, signatures, sealed uploads, leases, the synced ledger, models on disk. Left out: training, and the
evaluation of models, which a pool does in worker processes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import plyvel
from aiohttp import web

from bench.machine import memory
from bench.pool_load import Member, Tally, score_of
from bench.shares import NETWORK
from chain.artifact import artifact_id
from chain.failures import Guard
from chain.keys import PrivateKey
from chain.namespace import Namespace
from consensus.types import TaskSpec, task_id
from ponas_node.artifacts import ArtifactStore
from pool.disputes import Replay
from pool.messages import Limit
from pool.pool import Pool, PoolSettings
from pool.server import PoolServer
from pool.storage import NamespaceStorage
from pool.work import Work

SAMPLES = 1000
SEED = 20
BACKLOG = 4096
MEMBERS = 10_000
OFFERED = 2_050
"""Shares a second at the steady load; two for each member where there are few."""
MODEL_BYTES = 16 << 10
SECONDS, QUICK_SECONDS = 20.0, 4.0


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Figures for leases of one architecture, the default, and of two. `options.quick`: few members, seconds only."""
    return {f"lease_size_{size}": _figures(size, options.quick) for size in (1, 2)}


def _figures(lease_size: int, quick: bool) -> dict[str, object]:
    """At a steady load, and at the highest that the pool takes."""
    members, seconds = (500, QUICK_SECONDS) if quick else (MEMBERS, SECONDS)
    _more_files()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with _pool(folder, port, lease_size) as process:
            rest = lease_size * members / min(OFFERED, members * 2)
            found = asyncio.run(_load(process.pid, port, members, seconds, rest))
            peak = memory("VmHWM", process.pid)
        began = time.perf_counter()
        db, pool = _open(folder, lease_size)
        restart = time.perf_counter() - began
        kept = pool.summary().shares
        db.close()
    if kept < found["shares_acknowledged"]:
        raise RuntimeError(f"{found['shares_acknowledged']} shares were acknowledged, the ledger has {kept}")
    return {
        "members": members,
        "model_bytes": MODEL_BYTES,
        **found,
        "pool_peak_memory_mb": round(peak / 1e6, 1),
        "shares_in_ledger": kept,
        "restart_seconds": round(restart, 2),
    }


async def _load(pid: int, port: int, members: int, seconds: float, rest: float) -> dict[str, float]:
    """Connect all members; then a steady load, where they rest `rest` seconds for a lease; then as much as goes."""
    loop, tally = asyncio.get_running_loop(), Tally(rest, MODEL_BYTES)
    everyone = []
    began = time.perf_counter()
    for first in range(0, members, 100):
        some = [Member(number, tally, loop) for number in range(first, min(members, first + 100))]
        await asyncio.gather(*(loop.create_connection(member.itself, "127.0.0.1", port) for member in some))
        everyone += some
        async with asyncio.timeout(60):
            while tally.joined < len(everyone):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    connecting = time.perf_counter() - began
    rng = random.Random(SEED)
    for member in everyone:
        loop.call_later(rng.random() * rest, member.ask)
    await asyncio.sleep(rest)
    found: dict[str, float] = {"connections_per_second": round(members / connecting)}
    acknowledged = 0
    for name, resting in (("steady", rest), ("highest", 0.0)):
        tally.rest = resting
        await asyncio.sleep(rest)  # until those that rest as before have sent what they have
        acknowledged += tally.accepted
        tally.begin()
        began, busy = time.perf_counter(), _processor_seconds(pid)
        await asyncio.sleep(seconds)
        rate, busy = tally.accepted / (time.perf_counter() - began), _processor_seconds(pid) - busy
        found |= {
            f"{name}_shares_per_second": round(rate),
            f"{name}_processor_ms_per_share": round(busy / max(1, tally.accepted) * 1000, 3),
            f"{name}_lease_ms_median": _milliseconds(tally.leases, 50),
            f"{name}_lease_ms_p99": _milliseconds(tally.leases, 99),
            f"{name}_share_ms_median": _milliseconds(tally.shares, 50),
            f"{name}_share_ms_p99": _milliseconds(tally.shares, 99),
        }
    tally.stopped = True
    found |= {
        "shares_acknowledged": acknowledged + tally.accepted,
        "connections_lost": tally.lost,
        "shares_rejected": sum(tally.rejected.values()),
        "leases_denied": sum(tally.denied.values()),
    }
    if tally.lost or tally.rejected or tally.denied:
        raise RuntimeError(f"not all went well: {tally.lost} lost, {tally.rejected}, {tally.denied}")
    return found


def _milliseconds(latencies: list[float], percentile: int) -> float:
    return round(statistics.quantiles(latencies, n=100)[percentile - 1] * 1000, 1)


@contextlib.contextmanager
def _pool(folder: Path, port: int, lease_size: int) -> Iterator[subprocess.Popen[bytes]]:
    """The pool in a process of its own, killed at the end."""
    process = subprocess.Popen([sys.executable, "-m", "bench.pool_capacity", str(folder), str(port), str(lease_size)])
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _processor_seconds(pid: int) -> float:
    """Processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _more_files() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _work() -> Work:
    spec = TaskSpec(
        name="bench", dataset=artifact_id(b"bench"), dataset_bytes=5, height=8, width=8, channels=1, classes=10,
        test_samples=500, space="stages-v1", max_parameters=10_000_000, max_macs=1_000_000_000, steps=600, batch=64,
        learning_rate=400, segments=6, eval_samples=300, baseline=1000, bounty_per_epoch=0,
    )  # fmt: skip
    return Work(1, task_id(spec, b""), spec, bytes(32), time.time() + 36_000, SAMPLES)


def _open(folder: Path, lease_size: int) -> tuple[plyvel.DB, Pool]:
    db = plyvel.DB(str(folder / "db"), create_if_missing=True)
    settings = PoolSettings(network=NETWORK, max_model_bytes=1 << 20, lease_size=lease_size)
    return db, Pool(NamespaceStorage(Namespace(db, b"pool", Guard(folder))), settings, random.Random(SEED))


async def _serve(folder: Path, port: int, lease_size: int) -> None:
    """The pool's process."""

    async def evaluate(work: Work, models: list[tuple[bytes, bytes]]) -> list[int]:
        return [score_of(genotype) for genotype, _ in models]

    async def train(replay: Replay) -> tuple[bytes, ...]:
        raise RuntimeError("the trainings of this benchmark are made up")

    _, pool = _open(folder, lease_size)
    many = 1 << 20  # all members come from this machine
    server = PoolServer(
        pool, evaluate, train, ArtifactStore(folder / "artifacts").put, time.time, PrivateKey(bytes(32)),
        connections_per_host=many, handshakes_per_host=Limit(0, many, many),
    )  # fmt: skip
    app = web.Application()
    app.add_routes(server.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
    await server.start()
    server.set_work(_work())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
