"""A peer that breaks the protocol on purpose, by hand, against a real network."""

import asyncio
import time

import aiohttp
import msgpack
import pytest

from chain.hashing import digest
from chain.types import Block
from ponas_node.p2p import messages as m
from ponas_node.p2p.limits import LIMITS, MAX_FRAME
from tests.p2p.fakes import FakeHost, make_block, raw_peer, running, settings, transaction, until


@pytest.fixture
async def node(tmp_path):
    host = FakeHost(tmp_path, 1)
    async with running(host):
        yield host


async def test_wrong_network(node):
    async with raw_peer(node) as raw:
        await raw.send(raw.hello(node, network=digest("other")))
        goodbye = await raw.drain()
        assert goodbye.code == "other_network" and "use the same genesis file" in goodbye.reason
        assert not node.p2p.peers()


async def test_wrong_version(node):
    async with raw_peer(node) as raw:
        await raw.send(raw.hello(node, version=99))
        assert (await raw.drain()).reason == "protocol version differs: ours 3, theirs 99; update the older node"


async def test_bad_signature(node):
    async with raw_peer(node) as raw:
        await raw.send(raw.hello(node))
        await raw.send(m.Auth(bytes(64)))
        assert (await raw.drain()).code == "bad_signature"
        await until(lambda: node.p2p.refusals)
        assert node.p2p.refusals[-1].code == "bad_signature" and not node.p2p.peers()


async def test_a_signature_of_the_node_is_of_no_use_to_its_peer(node):
    """Reflection: the node's own nonce, key and signature sent back at it."""
    async with raw_peer(node) as raw:
        theirs = await raw.expect(m.Hello)
        await raw.send(theirs)
        assert (await raw.drain()).code == "self"
    async with raw_peer(node) as raw:
        theirs = await raw.expect(m.Hello)
        await raw.send(raw.hello(node, nonce=theirs.nonce))
        await raw.send(await raw.expect(m.Auth))
        assert (await raw.drain()).code == "bad_signature"


async def test_no_handshake(node):
    async with raw_peer(node) as raw:
        started = time.monotonic()
        assert (await raw.drain()).code == "timeout"
        assert 0.8 < time.monotonic() - started < 2.5


async def test_half_a_handshake(node):
    async with raw_peer(node) as raw:
        await raw.send(raw.hello(node))
        assert (await raw.drain()).code == "timeout"


async def test_a_connection_that_says_nothing_at_all(node):
    reader, writer = await asyncio.open_connection("127.0.0.1", node.p2p.port)
    async with asyncio.timeout(3):
        with pytest.raises(ConnectionError):
            if not await reader.read(1):
                raise ConnectionResetError
    writer.close()


async def test_plain_http_is_told_what_this_is(node):
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{node.p2p.port}/p2p") as reply:
        assert reply.status == 426 and "WebSocket" in await reply.text()


async def test_other_messages_before_the_handshake(node):
    for message in (m.GetPeers(1), m.Announce(0, (bytes(32),)), transaction(1)):
        async with raw_peer(node) as raw:
            await raw.send(message)
            assert (await raw.drain()).code == "bad_handshake"


async def test_handshake_after_the_handshake(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.send(raw.hello(node))
        assert (await raw.drain()).code == "out_of_place"


async def test_oversized_frame_of_a_type(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.send_raw(bytes([m.NUMBERS[m.Announce]]) + bytes(LIMITS[m.Announce].most + 1))
        goodbye = await raw.drain()
        assert goodbye.code == "oversized" and "the limit is 8192" in goodbye.reason


async def test_oversized_frame_of_the_transport(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.send_raw(bytes(MAX_FRAME + 10))
        await raw.drain()
        await until(lambda: not node.p2p.peers())
        assert node.p2p.refusals[-1].code == "oversized"


async def test_text_frames(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.socket.send_str("hello")
        assert (await raw.drain()).code == "malformed"


async def test_unknown_type_flood(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        for _ in range(3):  # a few may come from a newer version
            await raw.send_raw(bytes([77, 1, 2, 3]))
        await raw.send(m.GetPeers(1))
        await raw.expect(m.Peers)
        for _ in range(50):
            await raw.send_raw(bytes([99]))
        assert (await raw.drain(10)).code in ("unknown_type", "flood")
    async with raw_peer(node) as raw:  # and comes back too soon
        await raw.send(raw.hello(node))
        goodbye = await raw.drain()
        assert goodbye.code == "banned" and "unknown_type" in goodbye.reason


async def test_large_and_empty_unknown_frames(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.send_raw(bytes([99]) * 5000)
        assert (await raw.drain()).code == "oversized"
    async with raw_peer(node, 201) as raw:
        await raw.greet(node)
        await raw.send_raw(b"")
        await until(lambda: node.p2p.peers()[0].score > 5)


@pytest.mark.parametrize(
    "message",
    [
        m.Pong(7, 0),
        m.Headers(7, ()),
        m.Blocks(7, ()),
        m.ArtifactInfo(7, 0, b""),
        m.Chunk(7, True, b"x"),
        m.Peers(7, ()),
        m.NotFound(0, (bytes(32),)),
        transaction(1),
        m.NotFound(1, (bytes(32),)),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_unsolicited_replies(node, message):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await until(lambda: node.p2p.peers())
        await asyncio.sleep(0.05)
        for _ in range(8):
            await raw.send(message)
        assert (await raw.drain(15)).code in ("unsolicited", "flood")
        assert not node.received and not node.block_senders


async def test_unsolicited_block(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        for slot in range(8):
            await raw.send(make_block(node.chain.genesis, slot + 1))
        assert (await raw.drain()).code == "unsolicited"
        assert node.chain.tip.height == 0 and not node.block_senders


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb([0, [bytes(32)] * 129]),
        msgpack.packb([0, []]),
        msgpack.packb([0, [bytes(31)]]),
        msgpack.packb([9, [bytes(32)]]),
        msgpack.packb({"kind": 0}),
        b"\x92\xcc\x00" + msgpack.packb([bytes(32)]),  # 0 in two bytes: not canonical
        b"\xdd\x00\x00\x1f\x00" * 900,
    ],
)
async def test_malformed_announcements(node, payload):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        await raw.send_raw(bytes([m.NUMBERS[m.Announce]]) + payload)
        assert (await raw.drain()).code == "malformed"
        assert node.p2p.refusals[-1].code == "malformed"


async def test_announced_junk_is_asked_for_in_small_portions_and_costs(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        for start in range(0, 4096, 128):
            await raw.send(
                m.Announce(0, tuple(digest("junk", bytes([n % 256, n // 256])) for n in range(start, start + 128)))
            )
        asked = await raw.expect(m.Request)
        assert len(asked.ids) == 32
        inventory = node.p2p._gossip._items[m.Item.TRANSACTION]
        await until(lambda: len(inventory._sources) > 1000)
        assert len(inventory._sources) <= 2048 + 32
        goodbye = await raw.drain(5)
        assert goodbye.code == "not_delivered"
        await until(lambda: not inventory._sources and not inventory._peers)


async def test_the_other_source_is_asked_where_the_first_does_not_deliver(node):
    item = transaction(5)
    async with raw_peer(node, 200) as liar, raw_peer(node, 201) as honest:
        await liar.greet(node)
        await honest.greet(node)
        await liar.send(m.Announce(0, (item.id,)))
        await liar.expect(m.Request)
        await honest.send(m.Announce(0, (item.id,)))
        assert (await honest.expect(m.Request)).ids == (item.id,)
        await honest.send(item)
        await until(lambda: item.id in node.pending)


async def test_invalid_transactions_cost_until_the_ban(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        for number in range(8):
            bad = transaction(number, fee=13)
            await raw.send(m.Announce(0, (bad.id,)))
            await raw.expect(m.Request)
            await raw.send(bad)
            if number == 4:
                break
        goodbye = await raw.drain()
        assert goodbye is not None and goodbye.code == "invalid_transaction" and "unlucky" in goodbye.reason


async def test_a_block_with_foreign_transactions_does_not_spoil_its_id(node):
    good = make_block(node.chain.genesis, 1)
    twisted = Block(good.header, (*good.transactions, transaction(1)))
    async with raw_peer(node, 200) as liar:
        await liar.greet(node)
        await liar.send(m.Announce(1, (good.id,)))
        await liar.expect(m.Request)
        await liar.send(twisted)
        assert (await liar.drain()).code == "invalid_block"
    async with raw_peer(node, 201) as honest:
        await honest.greet(node)
        await honest.send(m.Announce(1, (good.id,)))
        await honest.expect(m.Request)
        await honest.send(good)
        await until(lambda: node.chain.tip.id == good.id)


async def test_log_injection(node, caplog):
    caplog.set_level("DEBUG")
    async with raw_peer(node) as raw:
        await raw.greet(node, agent="evil\n2026-01-01 ERROR all is lost\x1b[2J\u202e")
        await until(lambda: node.p2p.peers())
        assert node.p2p.peers()[0].agent == "evil?2026-01-01 ERROR all is lost?[2J?"
        await raw.send(m.Goodbye("x\ny", "bye\r\nINFO \x1b[31mfine"))
        await until(lambda: not node.p2p.peers())
    assert "bye??INFO ?[31mfine" in caplog.text
    for record in caplog.records:
        if record.name == "ponas_node.p2p":
            assert record.getMessage().isprintable()


async def test_a_peer_that_does_not_read_is_dropped_and_blocks_nobody(tmp_path):
    host = FakeHost(tmp_path, 1)
    host.settings = settings(send_queue_frames=100, send_timeout=0.5)
    data = bytes(1 << 20)
    id = host.artifacts.put(data)
    async with running(host), raw_peer(host, 200) as deaf, raw_peer(host, 201) as other:
        await deaf.greet(host)
        await other.greet(host)
        for number in range(300):
            await deaf.send(m.GetChunk(number, id, number % 16))
        await other.send(m.GetPeers(1))
        await other.expect(m.Peers)
        await until(lambda: len(host.p2p.peers()) == 1)


async def test_a_second_connection_of_a_key_replaces_the_first(node):
    async with raw_peer(node) as first:
        await first.greet(node)
        await until(lambda: node.p2p.peers())
        async with raw_peer(node) as second:
            await second.greet(node)
            assert (await first.drain()).code == "duplicate"
            await second.send(m.GetPeers(1))
            await second.expect(m.Peers)
            assert len(node.p2p.peers()) == 1


async def test_too_fast_is_read_slowly_first(node):
    async with raw_peer(node) as raw:
        await raw.greet(node)
        started = time.monotonic()
        for number in range(6):
            await raw.send(m.GetPeers(number))
        for _ in range(6):
            await raw.expect(m.Peers, 10)
        assert time.monotonic() - started > 3
        assert 0 < node.p2p.peers()[0].score < 10
