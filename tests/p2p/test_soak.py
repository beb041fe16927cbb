"""Several nodes that come and go at random while blocks and transactions are made: in the end all agree."""

import asyncio
import os
import random

import pytest

from ponas_node.p2p import Network
from tests.p2p.fakes import FakeHost, running, settings, transaction, until


async def churn(tmp_path, seed, rounds, count):
    print(f"seed {seed}: set PONAS_TEST_SEED to replay")
    source = random.Random(seed)
    hosts = [FakeHost(tmp_path, number + 1) for number in range(count)]
    async with running(*hosts):
        ports = [host.p2p.port for host in hosts]
    for number, host in enumerate(hosts):
        dialled = tuple(f"127.0.0.1:{port}" for port in source.sample(ports[:number] + ports[number + 1 :], 2))
        host.settings = settings(listen_port=ports[number], peers=dialled)
    up = set()

    async def start(host):
        host.p2p = Network(host, host.settings, random.Random(source.random()))
        await host.p2p.start()
        up.add(host)

    try:
        for host in hosts:
            await start(host)
        for number in range(rounds):
            action, host = source.random(), source.choice(hosts)
            if action < 0.2 and len(up) > 2 and host in up:
                up.discard(host)
                await host.p2p.stop()
            elif action < 0.45 and host not in up:
                await start(host)
            elif host in up and action < 0.8:
                host.mint(bytes([number % 256, number // 256]))
            elif host in up:
                await host.receive_transaction(transaction(number), None)
            await asyncio.sleep(source.random() * 0.05)
        for host in hosts:
            if host not in up:
                await start(host)
        hosts[0].mint(b"a")  # two more blocks, so that no branches of equal length remain
        await until(lambda: all(host.chain.tip.height >= hosts[0].chain.tip.height for host in hosts), 20)
        best = max(hosts, key=lambda host: host.chain.tip.height)
        best.mint(b"b")
        await until(lambda: len({host.chain.tip.id for host in hosts}) == 1, 20)
        await until(lambda: len({frozenset(host.pending) for host in hosts}) == 1, 20)
        assert not [refusal for host in hosts for refusal in host.p2p.refusals]
        assert all(peer.score < 20 for host in hosts for peer in host.p2p.peers())
    finally:
        for host in up:
            await host.p2p.stop()


async def test_nodes_that_come_and_go_agree_in_the_end(tmp_path):
    await churn(tmp_path, int(os.environ.get("PONAS_TEST_SEED", random.randrange(1 << 32))), rounds=120, count=5)


@pytest.mark.long
async def test_many_nodes_that_come_and_go_for_longer(tmp_path):
    await churn(tmp_path, int(os.environ.get("PONAS_TEST_SEED", random.randrange(1 << 32))), rounds=1500, count=12)
