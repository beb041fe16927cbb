"""Artifacts between real networks, and from peers that lie."""

import asyncio
import random

import pytest

from chain.artifact import CHUNK, artifact_id, chunk_hashes
from chain.errors import Ignore
from ponas_node.p2p import messages as m
from tests.p2p.fakes import FakeHost, address, raw_peer, running, settings, until

SEED = 7
print(f"seed of the artifacts: {SEED}")
DATA = random.Random(SEED).randbytes(5 * CHUNK + 17)
ID = artifact_id(DATA)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 << 20])
async def test_an_artifact_arrives(tmp_path, size):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    data = random.Random(size).randbytes(size)
    id = one.artifacts.put(data)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.p2p.peers())
            assert await two.p2p.fetch_artifact(id, size)
            assert two.artifacts.read(id) == data


async def test_calls_share_a_download(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.artifacts.put(DATA)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.p2p.peers())
            before = two.p2p.peers()[0].bytes_in
            assert all(await asyncio.gather(*(two.p2p.fetch_artifact(ID, len(DATA)) for _ in range(20))))
            assert two.p2p.peers()[0].bytes_in - before < 1.1 * len(DATA)


async def test_it_is_found_where_only_one_of_several_has_it_and_even_later(tmp_path):
    asker, one, two = (FakeHost(tmp_path, seed) for seed in (1, 2, 3))
    async with running(one, two):
        asker.settings = settings(peers=(address(one), address(two)))
        async with running(asker):
            await until(lambda: len(asker.p2p.peers()) == 2)
            running_fetch = asyncio.create_task(asker.p2p.fetch_artifact(ID, len(DATA), one.node_key.public))
            await asyncio.sleep(0.2)
            two.artifacts.put(DATA)
            assert await running_fetch


async def test_limits_come_before_memory(tmp_path):
    one = FakeHost(tmp_path, 1)
    async with running(one):
        assert not await one.p2p.fetch_artifact(ID, one.max_artifact_bytes + 1)
        assert not await one.p2p.fetch_artifact(ID, -1)
        assert not await one.p2p.fetch_artifact(ID, len(DATA), timeout=0.1)
        assert not one.p2p._fetcher._running


async def test_a_caller_that_gives_up_does_not_spoil_it_for_the_next(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.p2p.peers())
            first = asyncio.create_task(two.p2p.fetch_artifact(ID, len(DATA)))
            await asyncio.sleep(0.05)
            first.cancel()
            one.artifacts.put(DATA)
            assert await two.p2p.fetch_artifact(ID, len(DATA))
            assert first.cancelled()


@pytest.mark.parametrize("lie", ["hashes", "chunk", "length", "size", "silence"])
async def test_a_liar_is_dropped_and_the_rest_comes_from_another(tmp_path, lie):
    honest, asker = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    honest.artifacts.put(DATA)
    async with running(asker), raw_peer(asker) as raw:
        await raw.greet(asker)
        fetch = asyncio.create_task(asker.p2p.fetch_artifact(ID, len(DATA), raw.key.public))
        asked = await raw.expect(m.GetArtifact)
        hashes = b"".join(chunk_hashes(DATA))
        if lie == "hashes":
            await raw.send(m.ArtifactInfo(asked.request, len(DATA), bytes(len(hashes))))
        elif lie == "size":
            await raw.send(m.ArtifactInfo(asked.request, len(DATA) + 1, hashes))
        elif lie != "silence":
            await raw.send(m.ArtifactInfo(asked.request, len(DATA), hashes))
            chunk = await raw.expect(m.GetChunk)
            await raw.send(m.Chunk(chunk.request, True, bytes(CHUNK if lie == "chunk" else 5)))
        honest.settings = settings(peers=(address(asker),))
        async with running(honest):
            assert await fetch
            if lie != "silence":
                assert (await raw.drain()).code == "bad_artifact"
                assert asker.p2p.refusals[-1].code == "bad_artifact"


async def test_what_is_not_there_is_said(tmp_path):
    one = FakeHost(tmp_path, 1)
    one.artifacts.put(DATA)
    async with running(one), raw_peer(one) as raw:
        await raw.greet(one)
        await raw.send(m.GetArtifact(1, bytes(32)))
        assert (await raw.expect(m.ArtifactInfo)).hashes == b""
        for number, (id, index) in enumerate([(bytes(32), 0), (ID, 6), (ID, 2**32 - 1)]):
            await raw.send(m.GetChunk(number, id, index))
            assert not (await raw.expect(m.Chunk)).found
        await raw.send(m.GetChunk(9, ID, 5))
        assert (await raw.expect(m.Chunk)).data == DATA[5 * CHUNK :]


@pytest.mark.parametrize("behind", [1, 40])
async def test_a_block_may_fetch_from_its_sender_while_it_is_judged(tmp_path, behind):
    """In gossip (one block) and in catch-up (many): the reader of the connection must stay free."""
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.artifacts.put(DATA)
    accept = two.receive_block

    async def fetch_first(block, peer):
        if not await two.p2p.fetch_artifact(ID, len(DATA), peer):
            raise Ignore("no artifact")
        await accept(block, peer)

    two.receive_block = fetch_first
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: one.p2p.peers())
            for _ in range(behind):
                one.mint()
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
