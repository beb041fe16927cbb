"""A node that was started with `--strategy supernet`: its pool and its solo search work by a ranking."""

import asyncio

import pytest

from chain.artifact import artifact_id
from ponas_node.cli.main import main
from ponas_node.config import NodeConfig
from ponas_node.run import build_node
from ponas_node.strategies import NAMES, ChosenStrategy
from ponas_node.supernet import strategy as strategy_module
from ponas_node.supernet.search import admitted
from ponas_node.testnet import genesis as testnet
from pool.search import STRATEGIES
from pool.work import Work, validation_samples
from tests.miner.test_real_training import ENCODED
from tests.pool.kit import key, make_spec
from tests.pool.rig import until
from tests.supernet.test_supernet import FakeWorker

OWNER, MEMBER = key(99), key(1)
SPEC = make_spec(
    space="nb201-v1", dataset=artifact_id(ENCODED), dataset_bytes=len(ENCODED), max_parameters=30_000, steps=4
)


async def started(folder, monkeypatch, **options):
    """A node over a chain that stands still, whose search has a small task."""
    genesis = testnet.testnet_genesis(0, bootstrap=(OWNER.public,), funded=())
    node = build_node(NodeConfig(data=folder, prover_delay=-1, strategy="supernet", **options), genesis, OWNER)
    node.minter = None
    node.artifacts.put(ENCODED)
    work = Work(1, bytes(32), SPEC, bytes(32), node.now() + 3600, validation_samples(ENCODED))
    monkeypatch.setattr(node, "work", lambda: work)
    await node.start()
    return node


async def ranking_is_used(node, seconds):
    """Waits until the node's service has a ranking and works by it; answers the ranking."""
    service = node.services[0]
    strategy = service._strategy.strategy
    await until(lambda: strategy.knows(SPEC), seconds)
    (ranking,) = strategy._rankings.values()
    if node.config.pool:
        lease = service.pool.lease(MEMBER.address, b"w", node.now())
        assert lease.genotypes == ranking[:1]
    else:
        await until(lambda: any(found.genotype in ranking for found in service.search.candidates(1000)), seconds)
    return ranking


@pytest.mark.parametrize("kind", ["pool", "solo"])
async def test_services_tell_the_feed_what_they_work_on_and_stop_it(tmp_path, monkeypatch, kind):
    cells = admitted(SPEC)[5:8]
    worker = FakeWorker((0.01, cells))
    monkeypatch.setattr(strategy_module, "Worker", lambda *_, **__: worker)
    node = await started(tmp_path / "node", monkeypatch, **{kind: True})
    try:
        assert await ranking_is_used(node, 60) == tuple(cells)
    finally:
        await node.stop()
    assert worker.stopped
    (call,) = worker.calls
    assert call == ("supernet", SPEC.encode(), bytes(32), str(node.artifacts.root))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["pool", "solo"])
async def test_a_real_supernet_feeds_a_node(tmp_path, monkeypatch, kind):
    node = await started(tmp_path / "node", monkeypatch, **{kind: True})
    try:
        ranking = await ranking_is_used(node, 250)
        assert len(ranking) == 64 and set(ranking) <= set(admitted(SPEC))
    finally:
        await node.stop()


async def test_services_do_not_share_what_a_supernet_found(tmp_path):
    one, other = (ChosenStrategy("supernet", tmp_path, 0) for _ in range(2))
    one.strategy.learn(SPEC, admitted(SPEC)[:1])
    assert not other.strategy.knows(SPEC)
    await asyncio.gather(one.stop(), other.stop())
    assert {ChosenStrategy(name, tmp_path, 0).strategy.name for name in NAMES} == {*STRATEGIES, "supernet"}


def test_an_unknown_strategy_is_refused_with_the_names_of_all(capsys):
    assert main(["node", "--strategy", "luck"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in NAMES)
