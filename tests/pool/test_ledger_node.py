"""A whole node with a pool: endpoints, terms, metrics, the operator's command, and a snapshot at a clean stop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from chain.keys import address_text
from consensus import records
from ponas_node.cli.main import main
from ponas_node.client import NodeClient
from ponas_node.config import NodeConfig
from ponas_node.pool_check import check
from ponas_node.pool_config import PoolOptions
from ponas_node.run import build_node
from ponas_node.testnet import genesis as testnet
from pool import snapshot
from pool.work import Work
from tests.pool.kit import key, make_share

POOL, ME = key(99), key(1)
OPTIONS = PoolOptions("pplns", 500, 250, lease_size=1)


async def test_a_node_with_a_pool(tmp_path: Path, capsys) -> None:
    genesis = testnet.testnet_genesis(0, bootstrap=(POOL.public,), funded=())
    config = NodeConfig(data=tmp_path / "node", pool=True, pool_options=OPTIONS, prover_delay=-1)
    node = build_node(config, genesis, POOL)
    node.minter = None  # the chain stands still
    await node.start()
    try:
        pool = node.services[0].pool
        work = node.work() or first_work(node)
        pool.set_work(work, node.now())
        lease = pool.lease(ME.address, b"w", node.now())
        signed, model = make_share(work, lease, lease.genotypes[0], ME, work.validation_samples, network=node.network)
        assert pool.check_share(ME.public, signed, model, node.now()) is None
        pool.accept_share(signed, work.validation_samples, node.now())
        async with NodeClient(f"http://127.0.0.1:{node.api_port}") as client:
            summary = await client.get("/v1/pool")
            assert (summary["terms"]["scheme"], summary["terms"]["fee"]) == ("pplns", 250)
            assert summary["terms"]["operator"] == address_text(POOL.address)
            assert [member["address"] for member in summary["member_list"]] == [address_text(ME.address)]
            member = await client.get(f"/v1/pool/members/{address_text(ME.address)}")
            assert member["next_table"]["place"] == 1
            assert member["next_table"]["weight"] * 10_000 == member["next_table"]["total"] * 9_750
            findings = await check(client, client, ME, tmp_path / "receipts", 8, whole=True)
            assert (findings.problems, len(findings.account.shares)) == ([], 1)
            assert "ponas_pool_shares 1\n" in await client.text("/metrics")
        folder = ["--data", str(tmp_path / "node"), "--json"]
        assert await asyncio.to_thread(main, ["pool", "status", *folder]) == 0
        assert json.loads(capsys.readouterr().out)["shares"] == 1
        ban = ["pool", "ban", address_text(ME.address), "--reason", "forged", *folder]
        assert await asyncio.to_thread(main, ban) == 0
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["pool", "members", *folder]) == 0
        assert "forged" in json.loads(capsys.readouterr().out)[0]["ban_reason"]
        size = len(pool.ledger)
    finally:
        await node.stop()
    again = build_node(config, genesis, POOL)
    try:
        restored = again.services[0].pool
        assert (len(restored.ledger), restored._saved) == (size, size)
        assert snapshot.state_of(restored.book) == snapshot.state_of(pool.book)
    finally:
        again.store.close()


def first_work(node):
    """The work of the first epoch, however long ago that was by the clock."""
    epoch = records.current_epoch(node.chain.state)
    spec = records.task(node.chain.state, epoch.task).spec
    return Work(epoch.number, epoch.task, spec, epoch.seed, node.now() + 3600, 100)
