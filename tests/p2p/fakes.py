"""A tiny chain in memory, a node that accepts what is linked, and a peer that speaks the protocol by hand."""

import asyncio
import contextlib
import dataclasses
import time

import aiohttp

from chain.checkpoints import Checkpoints
from chain.errors import BadBlock, Ignore, Reject, UnknownParent
from chain.hashing import EMPTY, digest
from chain.keys import PrivateKey
from chain.types import (
    Block,
    Header,
    Kind,
    Output,
    TransferBody,
    coinbase_transaction,
    sign_transaction,
    transactions_root,
)
from ponas_node.artifacts import ArtifactStore
from ponas_node.p2p import Network, NetworkSettings
from ponas_node.p2p import messages as m
from ponas_node.p2p.handshake import signed_message

NETWORK = digest("test/network")
FAST = NetworkSettings(
    listen_port=0,
    handshake_timeout=1.0,
    close_timeout=0.5,
    item_timeout=0.5,
    request_timeout=1.0,
    batch_timeout=1.0,
    backoff_first=0.05,
    backoff_most=0.4,
    tick=0.02,
    sync_grace=0.2,
    sync_retry=0.3,
    sync_patience=(0.02, 0.05, 0.1),
)


def settings(**changes):
    return dataclasses.replace(FAST, **changes)


def make_block(parent, slot, tag=b"", transactions=()):
    everything = (coinbase_transaction(parent.height + 1, ()), *transactions)
    header = Header(
        1, parent.height + 1, slot, parent.id, transactions_root(everything), EMPTY, EMPTY, digest("m", tag), bytes(64)
    )
    return Block(header, everything)


def make_genesis(tag=b""):
    return Block(Header(1, 0, 0, EMPTY, transactions_root(()), EMPTY, EMPTY, digest("g", tag), bytes(64)), ())


class FakeChain:
    """Longest chain, first seen wins; blocks stay in memory."""

    base = 0
    checkpoints = Checkpoints()

    def __init__(self, genesis):
        self.blocks = {genesis.id: genesis}
        self.best = [genesis]

    @property
    def tip(self):
        return self.best[-1].header

    @property
    def genesis(self):
        return self.best[0].header

    def has(self, id):
        return id in self.blocks

    def block(self, id):
        return self.blocks.get(id)

    def locator(self):
        ids, height, step = [], self.tip.height, 1
        while height > 0:
            ids.append(self.best[height].id)
            if len(ids) >= 5:
                step *= 2
            height -= step
        return [*ids, self.genesis.id]

    def after(self, locator, limit_blocks, limit_bytes):
        on_best = {block.id: index for index, block in enumerate(self.best)}
        start = next((on_best[id] for id in locator if id in on_best), None)
        return [] if start is None or start + 1 < self.base else self.best[start + 1 : start + 1 + limit_blocks]

    def headers_after(self, locator, limit):
        return [block.header for block in self.after(locator, limit, 1 << 30)]

    def add(self, block):
        if block.id in self.blocks:
            return False
        parent = self.blocks.get(block.header.parent)
        if parent is None:
            raise UnknownParent("unknown parent")
        if block.header.slot <= parent.header.slot:
            raise BadBlock("slot")
        self.blocks[block.id] = block
        if block.header.height <= self.tip.height:
            return False
        branch = [block]
        while branch[-1].header.parent not in {b.id for b in self.best[-64:]}:
            branch.append(self.blocks[branch[-1].header.parent])
        del self.best[branch[-1].header.height :]
        self.best += reversed(branch)
        return True

    def grow(self, count, tag=b""):
        for _ in range(count):
            self.add(make_block(self.tip, self.tip.slot + 1, tag))


class Live:
    """Of a node that has followed its network all along."""

    def is_joining(self):
        return False


class FakeHost:
    """Accepts transactions with a fee, and blocks that link; `ignore_next` blocks it cannot judge yet."""

    max_artifact_bytes = 4 << 20

    def __init__(self, path, seed=1, network=NETWORK, genesis=None):
        self.network = network
        self.node_key = PrivateKey(digest("node", bytes([seed])))
        self.chain = FakeChain(genesis or make_genesis())
        self.artifacts = ArtifactStore(path / f"artifacts-{seed}")
        self.pending = {}
        self.p2p = None
        self.branches = Live()
        self.received = []
        self.ignore_next = 0
        self.block_senders = []

    def now(self):
        return time.time()

    def pending_transaction(self, id):
        return self.pending.get(id)

    def pending_ids(self):
        return list(self.pending)

    async def receive_transaction(self, transaction, peer):
        self.received.append(transaction.id)
        await asyncio.sleep(0)
        if transaction.fee == 13:
            raise Reject("unlucky")
        if transaction.fee == 0:
            raise Ignore("no fee")
        transaction.check_signature(self.network)
        if transaction.id not in self.pending:
            self.pending[transaction.id] = transaction
            self.p2p.announce_transaction(transaction.id)

    async def receive_block(self, block, peer):
        self.block_senders.append(peer)
        await asyncio.sleep(0)
        if block.header.seat == digest("bad"):
            raise BadBlock("a bad seat")
        if self.ignore_next:
            self.ignore_next -= 1
            raise Ignore("not yet")
        if self.chain.add(block):
            self.p2p.announce_block(block.id)

    def mint(self, tag=b""):
        block = make_block(self.chain.tip, self.chain.tip.slot + 1, tag)
        self.chain.add(block)
        self.p2p.announce_block(block.id)
        return block


def transaction(number=0, fee=1, kind=Kind.TRANSFER, network=NETWORK):
    key = PrivateKey(digest("sender", bytes([number % 256])))
    return sign_transaction(key, network, kind, number, fee, TransferBody((Output(bytes(20), number),)))


@contextlib.asynccontextmanager
async def running(*hosts, **changes):
    """Start a network for each host; `settings` of a host may stand in its attribute `settings`."""
    started = []
    try:
        for host in hosts:
            host.p2p = Network(host, getattr(host, "settings", None) or settings(**changes))
            await host.p2p.start()
            started.append(host.p2p)
        yield
    finally:
        for network in started:
            await network.stop()


def address(host):
    return f"127.0.0.1:{host.p2p.port}"


async def until(condition, seconds=5.0):
    """Wait until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of the code under test, which sets no event
            await asyncio.sleep(0.01)


class RawPeer:
    """A hand-written peer: sends what it is told, remembers what it got."""

    def __init__(self, socket, key):
        self.socket = socket
        self.key = key
        self.nonce = digest("nonce", key.public)
        self.got = []
        self.goodbye = None

    def hello(self, host, **changes):
        hello = m.Hello(
            m.VERSION,
            host.network,
            host.chain.genesis.id,
            self.key.public,
            self.nonce,
            "raw/1",
            "",
            0,
            host.chain.genesis.id,
            0,
        )
        return dataclasses.replace(hello, **changes)

    async def send(self, message):
        await self.socket.send_bytes(m.frame(message))

    async def send_raw(self, data):
        await self.socket.send_bytes(data)

    async def receive(self, seconds=3.0):
        """Next message, or None at the end."""
        while True:
            got = await self.socket.receive(seconds)
            if got.type != aiohttp.WSMsgType.BINARY:
                return None
            message = m.TYPES[got.data[0]].decode(got.data[1:], 1 << 22)
            self.got.append(message)
            if isinstance(message, m.Goodbye):
                self.goodbye = message
            return message

    async def expect(self, kind, seconds=3.0):
        """Next message of a type; answers pings on the way."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.receive(seconds)
                if message is None:
                    raise ConnectionError(f"closed: {self.goodbye}")
                if isinstance(message, m.Ping) and kind is not m.Ping:
                    await self.send(m.Pong(message.request, int(time.time() * 1000)))
                if isinstance(message, kind):
                    return message

    async def drain(self, seconds=3.0):
        """Read until the connection ends; returns the Goodbye."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.receive(seconds) is not None:
                    pass
        return self.goodbye

    async def greet(self, host, **changes):
        """A proper handshake."""
        ours = self.hello(host, **changes)
        await self.send(ours)
        theirs = await self.expect(m.Hello)
        await self.send(m.Auth(self.key.sign(signed_message(host.network, True, ours, theirs))))
        await self.expect(m.Auth)
        return theirs


@contextlib.asynccontextmanager
async def raw_peer(host, seed=200):
    """A raw peer, connected but not greeted."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"http://{address(host)}/p2p",
            max_msg_size=1 << 23,
            compress=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.2),
        ) as socket,
    ):
        yield RawPeer(socket, PrivateKey(digest("node", bytes([seed]))))
