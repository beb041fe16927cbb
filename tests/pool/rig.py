"""A pool behind a real socket, and members with a trainer that only pretends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from chain.artifact import artifact_id
from chain.hashing import digest
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.executor import WHOLE, Trained, TrainingFailed
from ponas_node.miner.link import PoolLink
from ponas_node.state_files import StateFolder
from pool import messages
from pool.messages import Join, Problem
from pool.pool import Pool
from pool.sealing import KEY, seal
from pool.server import PoolServer
from pool.storage import MemoryStorage
from tests.pool.kit import SAMPLES, key, leaves_of, make_settings, make_work, model_of

A, B = key(1), key(2)
DATASET = b"a data set"
BACKOFF = (0.05, 0.2)


def score_of(genotype: bytes) -> int:
    return 50 + digest("score", genotype)[0]


class FakeExecutor:
    """Trains in no time: the score is a hash, the model names its architecture."""

    def __init__(self, seconds: float = 0.01, fail: bool = False, slots: int = 1, lie: int = 0) -> None:
        self.slots, self.seconds, self.fail, self.lie = slots, seconds, fail, lie
        self.trained: list[bytes] = []

    async def start(self):
        return self.slots

    async def train(self, spec, genotype, seed, artifacts, on_progress=None, keeping=WHOLE):
        if not (artifacts / spec.dataset.hex()).is_file():
            raise TrainingFailed("no dataset")
        for step in range(1, 5):
            await asyncio.sleep(self.seconds / 4)
            if on_progress is not None:
                on_progress(spec.steps * step // 4)
        if self.fail:
            raise TrainingFailed("out of memory")
        self.trained.append(genotype)
        leaves = leaves_of(spec, genotype, seed)
        return Trained(leaves, model_of(genotype, seed), score_of(genotype) + self.lie, SAMPLES)

    async def stop(self):
        pass


class Site:
    """The pool's HTTP side on a port of its own; can be killed and come back on the same port."""

    def __init__(self, pool: Pool, folder: Path, evaluate=None, pool_key=None) -> None:
        self.pool = pool
        self.artifacts = ArtifactStore(folder)
        self.artifacts.put(DATASET)
        self.port = 0
        self.evaluated: list[bytes] = []
        self.replayed: list[bytes] = []
        self._evaluate = evaluate or self._score
        self.key = pool_key or key(99)
        self.server: PoolServer | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, work) -> None:
        states = StateFolder(self.artifacts.root.with_name("states"))
        self.server = PoolServer(
            self.pool, self._evaluate_all, self._replay, self.artifacts.put, time.time, self.key, states=states
        )
        app = web.Application()
        app.add_routes([*self.server.routes(), web.get("/v1/artifacts/{id}", self._artifact)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        await self.server.start()
        self.server.set_work(work)

    async def stop(self) -> None:
        if self.server is not None and self._runner is not None:
            await self.server.stop()
            await self._runner.cleanup()

    async def _score(self, work, genotype, model):
        self.evaluated.append(genotype)
        await asyncio.sleep(0)
        return score_of(genotype) if model.startswith(b"model " + genotype) else -1

    async def _evaluate_all(self, work, models):
        return [await self._evaluate(work, genotype, model) for genotype, model in models]

    async def _replay(self, replay):
        self.replayed.append(replay.genotype)
        return leaves_of(replay.work.spec, replay.genotype, replay.work.seed)[: replay.leaves]

    async def _artifact(self, request):
        data = self.artifacts.read(bytes.fromhex(request.match_info["id"]))
        if data is None:
            raise web.HTTPNotFound
        return web.Response(body=data)


@contextlib.asynccontextmanager
async def running(*members) -> AsyncIterator[None]:
    """Members that mine in the background; their failures are the test's."""
    tasks = [asyncio.create_task(member.run()) for member in members]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def until(condition, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def real_work(epoch=1, seconds=3600.0, **changes):
    dataset = {"dataset": artifact_id(DATASET), "dataset_bytes": len(DATASET)}
    return make_work(epoch, closes=float(int(time.time() + seconds)), **(dataset | changes))


def new_pool(storage=None, **changes):
    return Pool(storage if storage is not None else MemoryStorage(), make_settings(**changes), random.Random(3))


async def link_to(site, http, member=A):
    return await PoolLink.open(http, site.url, member, b"worker")


async def answer(link, kind):
    async with asyncio.timeout(10):
        async for message in link.receive():
            if isinstance(message, kind):
                return message
    raise AssertionError("the connection ended")


def join_of(hello, member=A, upload_key=bytes(KEY), nonce=bytes(32)) -> Join:
    """What `member` says to join the connection of `hello`."""
    sealed = seal(upload_key, hello.sealing, messages.key_info(hello, member.public, nonce))
    signature = member.sign(messages.join_digest(hello, member.public, nonce, sealed, b"w"))
    return Join(member.public, nonce, sealed, b"w", "x", signature)


async def raw(site, http):
    socket = await http.ws_connect(site.url + "/pool/v1/ws")
    return socket, messages.decode((await socket.receive()).data, 0)


async def last_words(socket):
    async with asyncio.timeout(10):
        message = messages.decode((await socket.receive()).data, 0)
        assert isinstance(message, Problem)
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    return message.code
