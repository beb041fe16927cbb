"""Connections between real networks on real sockets."""

import asyncio

import pytest

from chain.hashing import digest
from ponas_node.p2p import Network, PortInUse
from tests.p2p.fakes import FakeHost, address, make_genesis, raw_peer, running, settings, until


async def test_two_nodes_connect_and_know_each_other(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(3)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: one.p2p.peers() and two.p2p.peers() and two.p2p.peers()[0].latency is not None)
            (seen,) = two.p2p.peers()
            assert seen.key == one.node_key.public.hex()
            assert seen.direction == "out" and one.p2p.peers()[0].direction == "in"
            assert seen.agent == "ponas-node/0.1.0" and seen.height == 3 and seen.score == 0
        await until(lambda: not one.p2p.peers())
        assert not one.p2p.refusals


async def test_a_peer_that_starts_late_or_was_down_is_found_again(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    async with running(one):
        port = one.p2p.port
    two.settings = settings(peers=(f"127.0.0.1:{port}",))
    one.settings = settings(listen_port=port)
    async with running(two):
        for _ in range(2):
            await asyncio.sleep(0.1)
            async with running(one):
                await until(lambda: two.p2p.peers())
            await until(lambda: not two.p2p.peers())


async def test_both_dial_one_connection_stays(tmp_path):
    hosts = [FakeHost(tmp_path, seed) for seed in (1, 2)]
    async with running(*hosts):
        ports = [host.p2p.port for host in hosts]
    for host, port, other in zip(hosts, ports, reversed(ports), strict=True):
        host.settings = settings(listen_port=port, peers=(f"127.0.0.1:{other}",))
    async with running(*hosts):
        await until(lambda: all(host.p2p.peers() for host in hosts))
        await asyncio.sleep(0.5)
        assert [len(host.p2p.peers()) for host in hosts] == [1, 1]
        assert {host.p2p.peers()[0].direction for host in hosts} == {"in", "out"}
        assert not any(host.p2p.refusals for host in hosts)


async def test_itself(tmp_path):
    one = FakeHost(tmp_path, 1)
    async with running(one):
        port = one.p2p.port
    one.settings = settings(listen_port=port, peers=(f"127.0.0.1:{port}",))
    async with running(one):
        await until(lambda: any(refusal.code == "self" for refusal in one.p2p.refusals))
        assert not one.p2p.peers()


async def test_another_network_is_refused_in_clear_words_on_both_sides(tmp_path, caplog):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2, network=digest("other"))
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: one.p2p.refusals and two.p2p.refusals)
    for host, other in ((one, two), (two, one)):
        refusal = host.p2p.refusals[-1]
        assert refusal.code == "other_network"
        assert refusal.reason == (
            f"genesis differs: ours {host.network.hex()}, theirs {other.network.hex()}; use the same genesis file"
        )
        assert refusal.reason in caplog.text


async def test_another_genesis_block_is_refused(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2, genesis=make_genesis(b"x"))
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.p2p.refusals)
            assert two.p2p.refusals[0].code == "other_genesis" and not two.p2p.peers()


async def test_port_in_use(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    async with running(one):
        with pytest.raises(PortInUse, match=f"127.0.0.1:{one.p2p.port} is in use by another process"):
            await Network(two, settings(listen_port=one.p2p.port)).start()


async def test_a_wrong_peer_address_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match="not host:port"):
        await Network(FakeHost(tmp_path), settings(peers=("nonsense",))).start()


async def test_full(tmp_path):
    one, two, three = (FakeHost(tmp_path, seed) for seed in (1, 2, 3))
    one.settings = settings(max_peers=1)
    async with running(one):
        two.settings = three.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.p2p.peers())
            async with running(three):
                await until(lambda: three.p2p.refusals)
                assert (
                    three.p2p.refusals[0].code == "full" and "as many peers as it takes" in three.p2p.refusals[0].reason
                )


async def test_addresses_are_learned_and_dialled(tmp_path):
    hub, two, three = (FakeHost(tmp_path, seed) for seed in (1, 2, 3))
    async with running(hub):
        two.settings = three.settings = settings(peers=(address(hub),))
        async with running(two):
            await until(lambda: hub.p2p.peers())
            async with running(three):
                await until(lambda: len(three.p2p.peers()) == 2 and len(two.p2p.peers()) == 2)


async def test_a_node_that_stops_says_so(tmp_path):
    one = FakeHost(tmp_path, 1)
    async with running(one), raw_peer(one) as raw:
        await raw.greet(one)
        await until(lambda: one.p2p.peers())
        stopping = asyncio.create_task(one.p2p.stop())
        assert (await raw.drain()).code == "stopping"
        await stopping
        assert not one.p2p.peers()
