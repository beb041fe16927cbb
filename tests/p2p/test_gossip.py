"""Gossip between real networks."""

import asyncio

from tests.p2p.fakes import FakeHost, address, running, settings, transaction, until


async def line(tmp_path, count):
    return [FakeHost(tmp_path, seed + 1) for seed in range(count)]


async def test_transactions_and_blocks_cross_a_line_of_nodes(tmp_path):
    one, two, three = await line(tmp_path, 3)
    async with running(one):
        two.settings = settings(peers=(address(one),), learned_peers=0)
        async with running(two):
            three.settings = settings(peers=(address(two),), learned_peers=0)
            async with running(three):
                await until(lambda: len(two.p2p.peers()) == 2)
                sent = [transaction(number) for number in range(200)]
                for item in sent:
                    await one.receive_transaction(item, None)
                await until(lambda: len(three.pending) == 200)
                assert list(three.pending) == [item.id for item in sent]
                for _ in range(5):
                    one.mint()
                await until(lambda: three.chain.tip.id == one.chain.tip.id)
                await until(lambda: one.p2p.peers()[0].height == 5)
                assert len(two.received) == 200 == len(three.received)
                assert all(peer.score < 1 for host in (one, two, three) for peer in host.p2p.peers())


async def test_a_newcomer_learns_what_is_pending(tmp_path):
    one, two = await line(tmp_path, 2)
    async with running(one):
        for number in range(300):
            await one.receive_transaction(transaction(number), None)
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: len(two.pending) == 300)


async def test_a_newcomer_learns_what_is_pending_after_catching_up(tmp_path):
    one, two = await line(tmp_path, 2)
    one.chain.grow(300)
    async with running(one):
        await one.receive_transaction(transaction(1), None)
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id and len(two.pending) == 1)


async def test_ignored_transactions_are_not_asked_for_again_and_cost_nothing(tmp_path):
    one, two = await line(tmp_path, 2)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: one.p2p.peers())
            useless = transaction(1, fee=0)
            one.pending[useless.id] = useless
            for _ in range(3):
                one.p2p.announce_transaction(useless.id)
                one.p2p._gossip._items[0]._peers[two.node_key.public].known.pop(useless.id)
                await asyncio.sleep(0.1)
            assert two.received == [useless.id]
            assert two.p2p.peers()[0].score == 0
