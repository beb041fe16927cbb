"""Catch-up and reorganisation with the real chain and store."""

import contextlib

import pytest

from chain.chain import Chain
from chain.store import Store
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, TestRules
from tests.p2p.fakes import FakeHost, address, running, settings, until


class RealHost(FakeHost):
    """A host with a chain on disk."""

    def __init__(self, path, seed, chain):
        super().__init__(path, seed, network=NETWORK)
        self.chain = chain

    async def receive_block(self, block, peer):
        if self.chain.add_block(block).connected:
            self.p2p.announce_block(block.id)


@pytest.fixture
def hosts(tmp_path):
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(Store(tmp_path / f"db{seed}", NETWORK)) for seed in (1, 2)]
        yield [RealHost(tmp_path, seed, Chain(store, TestRules())) for seed, store in enumerate(stores, 1)]


async def test_a_late_node_catches_up_and_follows(hosts):
    one, two = hosts
    builder = Builder(TestRules())
    tip = builder.genesis
    for slot in range(1, 41):
        block = builder.mint(tip, slot, [])
        one.chain.add_block(block)
        tip = block.header
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
            block = builder.mint(tip, 60, [])
            await one.receive_block(block, None)
            await until(lambda: two.chain.tip.id == block.id)
    assert two.chain.verify() == []


async def test_the_longer_of_two_branches_wins_on_both(hosts):
    one, two = hosts
    builder = Builder(TestRules())
    tip = builder.genesis
    for slot in range(1, 11):
        block = builder.mint(tip, slot, [])
        tip = block.header
        one.chain.add_block(block)
        two.chain.add_block(block)
    for host, slots in ((one, range(11, 16)), (two, range(21, 24))):
        parent = tip
        for slot in slots:
            block = builder.mint(parent, slot, [])
            host.chain.add_block(block)
            parent = block.header
    async with running(one):
        two.settings = settings(peers=(address(one),))
        async with running(two):
            await until(lambda: two.chain.tip.id == one.chain.tip.id)
    assert two.chain.height == 15 and two.chain.verify() == []
