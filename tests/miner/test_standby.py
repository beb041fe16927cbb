"""`ponas mine --pool URL --solo`: a node that searches alone only while its pool does not answer."""

from __future__ import annotations

import asyncio

import pytest

from tests.network.cluster import cluster, key
from tests.pool.test_kill import free_port


@pytest.mark.long
@pytest.mark.timeout(280)
async def test_solo_search_stands_in_for_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr("ponas_node.services._ALONE_SECONDS", 1.0)
    port = free_port()
    async with cluster(tmp_path) as group:
        await group.start("first", key(1))
        miner = await group.start("miner", key(5), solo=True, pools=(f"http://127.0.0.1:{port}",), prover_delay=-1)
        service = miner.services[0]
        alone, member = service.search.state, service.member.state
        await group.until("the miner searches alone", lambda: alone.trained >= 2)
        assert not member.connected
        await group.start("pool", key(4), pool=True, api_port=port)
        await group.until("the miner works for the pool", lambda: member.accepted >= 1)
        before = alone.trained
        await asyncio.sleep(3)
        assert alone.trained == before and member.connected
        await group.stop("pool")
        await group.until("the miner searches alone again", lambda: alone.trained > before)
