"""Catch-up between real networks, and with peers that stall or lie."""

import asyncio

from chain.hashing import digest
from ponas_node.p2p import messages as m
from tests.p2p.fakes import FakeHost, address, make_block, raw_peer, running, settings, until


async def test_a_node_that_starts_late_catches_up(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(500)
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
            await until(lambda: not two.p2p.sync_status().syncing)
            one.mint()
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
            status = two.p2p.sync_status()
            assert (status.height, status.best_height, status.syncing) == (501, 501, False)


async def test_progress_is_told_while_catching_up(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(300)
    accept = two.receive_block

    async def slowly(block, peer):
        await asyncio.sleep(0.005)
        await accept(block, peer)

    two.receive_block = slowly
    seen = []
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: seen.append(two.p2p.sync_status()) or two.chain.tip.height == 300, 20)
    during = [status for status in seen if status.syncing and status.eta_seconds is not None]
    assert during and all(status.best_height == 300 and status.blocks_per_second > 10 for status in during[20:])
    assert during[-1].eta_seconds < during[20].eta_seconds


async def test_the_longer_branch_is_followed_after_a_split(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    for host, count, tag in ((one, 10, b""), (two, 10, b"")):
        host.chain.grow(count, tag)
    one.chain.grow(40, b"one")
    two.chain.grow(30, b"two")
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)


async def test_a_block_that_cannot_be_judged_yet_is_tried_again(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(30)
    two.ignore_next = 3
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
            assert two.p2p.peers()[0].score == 0


async def test_after_giving_up_it_starts_again(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(30)
    two.ignore_next = 10
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)


async def test_an_unknown_parent_starts_catching_up(tmp_path):
    one, two = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    one.chain.grow(5)
    two.settings = settings(sync_grace=60)
    async with running(two):
        one.settings = settings(peers=(address(two),))
        async with running(one):
            await until(lambda: two.p2p.peers())
            await asyncio.sleep(0.2)
            assert two.chain.tip.height == 0
            one.mint()
            await until(lambda: two.chain.tip.id == one.chain.tip.id)


async def test_a_peer_that_stalls_is_replaced(tmp_path):
    good, late = FakeHost(tmp_path, 1), FakeHost(tmp_path, 2)
    good.chain.grow(100)
    late.settings = settings(sync_grace=0.0, batch_timeout=0.5)
    async with running(late), raw_peer(late) as raw:
        await raw.greet(late, height=1000, tip=digest("far"))
        await raw.expect(m.GetBlocks)  # and says nothing
        good.settings = settings(peers=(address(late),))
        async with running(good):
            await until(lambda: late.chain.tip.id == good.chain.tip.id)


async def test_a_claim_alone_does_not_stop_a_node(tmp_path):
    late, other = FakeHost(tmp_path, 2), FakeHost(tmp_path, 3)
    late.settings = settings(sync_grace=0.0)
    async with running(late), raw_peer(late) as raw:
        await raw.greet(late, height=1000, tip=digest("far"))
        await raw.expect(m.GetBlocks)  # and says nothing
        other.settings = settings(peers=(address(late),))
        async with running(other):
            await until(other.p2p.peers)
            assert not late.p2p.sync_status().syncing
            late.mint()
            await until(lambda: other.chain.tip.id == late.chain.tip.id)


async def serve_lies(late, make_reply, **hello):
    """A raw peer that answers the first GetBlocks with what `make_reply` builds; returns its Goodbye."""
    async with raw_peer(late) as raw:
        await raw.greet(late, height=1000, tip=digest("far"), **hello)
        asked = await raw.expect(m.GetBlocks)
        await raw.send(make_reply(asked))
        return await raw.drain()


async def test_lying_batches_are_punished(tmp_path):
    late = FakeHost(tmp_path, 2)
    late.settings = settings(sync_grace=0.0, ban_seconds=0.0)
    genesis = late.chain.genesis
    first = make_block(genesis, 1)
    second = make_block(first.header, 2)
    bad = make_block(genesis, 0)
    lies = {
        "bad_batch": [second.raw],  # does not follow the locator
        "malformed": [b"\x93\x01"],
        "invalid_block": [bad.raw],
    }
    async with running(late):
        for code, blocks in lies.items():
            goodbye = await serve_lies(late, lambda asked, blocks=blocks: m.Blocks(asked.request, tuple(blocks)))
            assert goodbye is not None and goodbye.code == code
            assert late.p2p.refusals[-1].code == code
        gap = [first.raw, make_block(second.header, 3).raw]
        goodbye = await serve_lies(late, lambda asked: m.Blocks(asked.request, tuple(gap)))
        assert goodbye.code == "bad_batch"


async def test_a_restored_node_is_asked_for_what_it_has_and_blamed_for_nothing(tmp_path):
    full, restored, late, forked = (FakeHost(tmp_path, seed) for seed in (1, 2, 3, 4))
    for host in (full, restored):
        host.chain.grow(30)
    restored.chain.base = 20
    forked.chain.grow(22, b"another branch")
    async with running(restored):
        for host, height in ((forked, 22), (late, 0)):
            host.settings = settings(sync_grace=0.0, peers=(address(restored),))
            async with running(host):
                await until(host.p2p.peers)
                await asyncio.sleep(0.5)
                assert host.chain.tip.height == height and [peer.score for peer in host.p2p.peers()] == [0]
        async with running(late):
            await until(late.p2p.peers)
            full.settings = settings(peers=(address(late),))
            async with running(full):
                await until(lambda: late.chain.tip.id == restored.chain.tip.id)


async def test_a_claimed_height_without_blocks_costs(tmp_path):
    late = FakeHost(tmp_path, 2)
    late.settings = settings(sync_grace=0.0)
    async with running(late), raw_peer(late) as raw:
        await raw.greet(late, height=1000, tip=digest("far"))
        asked = await raw.expect(m.GetBlocks)
        await raw.send(m.Blocks(asked.request, ()))
        await until(lambda: late.p2p.peers()[0].score > 15)
