"""Nodes, a pool with a member and a solo miner run a real competition over real sockets."""

from __future__ import annotations

from pathlib import Path

from chain.keys import address_of
from chain.types import CoinbaseBody
from consensus import records
from consensus.facts import fact_key, score_fact
from ponas_node.client import NodeClient
from ponas_node.pool_check import check
from tests.network.cluster import cluster, key


def paid_to(node, address: bytes) -> int:
    """What coinbases paid to an address."""
    total = 0
    for height in range(1, node.chain.height + 1):
        block = node.chain.block_at(height)
        outputs = CoinbaseBody.decode(block.transactions[0].body).outputs
        total += sum(output.amount for output in outputs if output.address == address)
    return total


async def test_search_wins_seats_and_pays_members(tmp_path: Path) -> None:
    async with cluster(tmp_path) as group:
        first = await group.start("first", key(1))
        second = await group.start("second", key(2), prover_delay=2)
        pool = await group.start("pool", key(4), pool=True, prover_delay=-1)
        solo = await group.start("solo", key(5), solo=True, prover_delay=-1)
        members = {key(20): "member", key(21): "other"}
        for who, name in members.items():
            await group.member(who, pool, name)
        owners = {key(4).public, key(5).public}
        await group.until(
            "pool and solo hold seats", lambda: owners <= {result.owner for result in group.winners(first)}
        )
        for who in members:
            await group.until("the member is paid", lambda who=who: paid_to(first, who.address) > 0)
        late = await group.start("late", None, prover_delay=-1)
        await group.until("a late node catches up", lambda: late.chain.height >= first.chain.height - 1)
        group.agree()

        # Every node evaluated every result itself, to the score on the chain; all seats are held by such results.
        for node in (first, second, pool, solo, late):
            for result in group.winners(late):
                task = records.task(node.chain.state, result.task)
                epoch = records.epoch(node.chain.state, result.epoch)
                fact = score_fact(task.spec, epoch, result.genotype, result.model, result.model_bytes)
                assert node.oracle.get(fact_key(fact)) == result.correct
        active, bootstrap = (set(found) for found in (records.active_seats(late.chain.state),
                                                      records.ids(late.chain.state, records.BOOTSTRAP)))  # fmt: skip
        for seat in active - bootstrap:
            assert records.result(late.chain.state, seat) is not None

        # The pool's results pay its members, not the operator.
        for result in group.winners(first):
            if result.owner == key(4).public:
                assert {line.address for line in result.payouts} <= {who.address for who in members}
            else:
                assert address_of(result.owner) == key(5).address

        # The members check the pool against another node's chain, with the receipts that their miners kept.
        async with NodeClient(f"http://127.0.0.1:{pool.api_port}") as asked:
            async with NodeClient(f"http://127.0.0.1:{first.api_port}") as chain:
                for who, name in members.items():
                    findings = await check(asked, chain, who, tmp_path / name / "receipts", 8, whole=True)
                    assert findings.problems == []
                    assert findings.receipts
                    assert any(table.seated and table.part > 0 for table in findings.tables)
            metrics = await asked.text("/metrics")
        assert "ponas_pool_members 2\n" in metrics


async def test_node_that_was_down_catches_up_with_the_same_data(tmp_path: Path) -> None:
    async with cluster(tmp_path, bootstrap=1) as group:
        first = await group.start("first", key(1))
        second = await group.start("second", None, prover_delay=-1)
        await group.until("blocks", lambda: second.chain.height >= 3)
        tip = second.chain.tip.id
        await group.stop("second")
        await group.until("more blocks", lambda: first.chain.height >= 12)
        second = await group.start("second", None, prover_delay=-1)
        assert second.chain.has(tip)
        await group.until("it catches up", lambda: second.chain.height >= first.chain.height - 1)
        group.agree()
