"""Deep forks between real chains over sockets: a node that joins takes the denser branch, a live one refuses."""

import asyncio
import contextlib
import dataclasses
import time
from types import SimpleNamespace

import pytest

from chain.chain import Chain
from chain.checkpoints import Checkpoint, Checkpoints
from chain.density import blocks_in_window
from chain.errors import TooDeep
from chain.store import Store
from chain.types import Block, CoinbaseBody, Kind, sign_transaction
from ponas_node.branches import Branches
from ponas_node.p2p import messages as m
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, PARAMETERS, USERS, TestRules, transfer
from tests.chain.test_chain import branch
from tests.p2p.fakes import FakeHost, address, raw_peer, running, settings, until

NOW = 200  # slot of every clock here
FORK = 5
HONEST = (*range(6, 25), *range(30, NOW, 5))  # dense after the fork, sparse later: 53 blocks
PRIVATE = (*range(7, 30, 4), *range(30, NOW, 2))  # sparse after the fork, and longer in the end: 91 blocks


class JoiningHost(FakeHost):
    """A host with a chain on disk, and the node's own judgement of deep branches."""

    def __init__(self, path, seed, chain):
        super().__init__(path, seed, network=NETWORK)
        self.chain = chain
        self.store = chain.store
        self.refused = 0
        self.established = []
        self.config = SimpleNamespace(label=f"host {seed}")
        self.genesis = SimpleNamespace(
            ledger=SimpleNamespace(max_rollback=PARAMETERS.max_rollback), consensus=SimpleNamespace(challenge_blocks=40)
        )
        self.branches = Branches(self)

    def slot(self):
        return NOW

    async def establish(self, missing, priority, peer):
        await asyncio.sleep(0)
        self.established.append((missing.facts, peer))
        self.chain.rules.known.update(missing.facts)

    def after(self, outcome, block):
        if block is not None:
            self.p2p.announce_block(block.id)

    async def receive_block(self, block, peer):
        self.branches.is_joining()
        try:
            if self.chain.add_block(block).connected:
                self.p2p.announce_block(block.id)
        except TooDeep:
            self.refused += 1
            raise


@pytest.fixture
def make(tmp_path):
    """Makes hosts, each with the blocks it is given."""
    with contextlib.ExitStack() as stack:

        def make(seed, blocks=(), checkpoints=(), joining=True):
            store = stack.enter_context(Store(tmp_path / f"db{seed}", NETWORK))
            chain = Chain(store, TestRules(), checkpoints=Checkpoints(checkpoints))
            chain.horizon = 0
            for block in blocks:
                chain.add_block(block)
            chain.horizon = None
            if joining:  # from genesis, though its tip may be recent by now
                store.namespace(b"following").put(b"anchor", bytes(8))
            host = JoiningHost(tmp_path, seed, chain)
            host.settings = settings(sync_grace=0.0)
            return host

        yield make


@pytest.fixture(scope="module")
def world():
    """(builder, trunk, honest branch, private branch)."""
    builder = Builder(TestRules())
    trunk = branch(builder, builder.genesis, range(1, FORK + 1))
    return builder, trunk, branch(builder, trunk[-1].header, HONEST), branch(builder, trunk[-1].header, PRIVATE)


async def test_a_joiner_whose_first_peer_serves_a_sparse_private_branch_ends_on_the_dense_one(make, world):
    _, trunk, honest, private = world
    liar, good = make(1, trunk + private, joining=False), make(2, trunk + honest, joining=False)
    joiner = make(3)
    async with running(liar):
        joiner.settings = dataclasses.replace(joiner.settings, peers=(address(liar),))
        async with running(joiner):
            await until(lambda: joiner.chain.tip.id == private[-1].id)
            assert joiner.branches.is_joining()  # a recent tip alone makes no live node
            good.settings = dataclasses.replace(good.settings, peers=(address(joiner),))
            async with running(good):
                await until(lambda: joiner.chain.tip.id == honest[-1].id)
                # The private branch is longer and its peer still there: it is compared again, and ours stays.
                await asyncio.sleep(1.0)
                assert joiner.chain.tip.id == honest[-1].id and joiner.branches.adopted == 1
                assert good.chain.tip.id == honest[-1].id and liar.chain.tip.id == private[-1].id
    assert joiner.chain.verify() == []
    joiner.chain.decided = -1
    Branches(joiner)  # as after a restart: length does not decide there what density has
    assert joiner.chain.decided == FORK


async def test_facts_that_the_denser_branch_needs_are_established_on_the_way(make, world):
    builder, trunk, _, private = world
    publish = []
    for nonce in range(2):
        body = CoinbaseBody(nonce, ())
        builder.rules.known.add(body.encode())
        publish.append(sign_transaction(USERS[3], NETWORK, Kind.PUBLISH, nonce, 900, body))
    first = branch(builder, trunk[-1].header, range(6, 12), publish[0])
    dense = first + branch(builder, first[-1].header, range(12, 100), publish[1])
    joiner, good = make(1, trunk + private), make(2, trunk, joining=False)
    good.chain.rules.known.update(builder.rules.known)
    for block in dense:
        good.chain.add_block(block)
    good.slot = lambda: 100
    async with running(good):
        joiner.settings = dataclasses.replace(joiner.settings, peers=(address(good),))
        async with running(joiner):
            await until(lambda: joiner.chain.tip.id == dense[-1].id)
    bodies = [transaction.body for transaction in publish]
    assert joiner.established == [((body,), good.node_key.public) for body in bodies]
    assert joiner.branches.adopted == 1 and joiner.chain.verify() == []


async def test_a_live_node_refuses_the_denser_branch(make, world):
    _, trunk, honest, private = world
    live, other = make(1, trunk + private[:20], joining=False), make(2, trunk + honest)
    live.slot = lambda: private[19].header.slot
    async with running(other):
        live.settings = dataclasses.replace(live.settings, peers=(address(other),))
        async with running(live):
            await until(lambda: live.refused > 0)
            await asyncio.sleep(0.5)
            assert live.chain.tip.id == private[19].id
            assert not live.branches.is_joining() and not live.branches.adopted
            assert [peer.score for peer in live.p2p.peers()] == [0]


async def serve_headers(raw, blocks):
    """Answer as a node would whose best chain is `blocks`, genesis first."""
    index = {block.id: number for number, block in enumerate(blocks)}
    asked = []
    with contextlib.suppress(ConnectionError, TimeoutError):
        while len(asked) < 50:
            message = await raw.receive(5)
            if message is None:
                break
            asked.append(message)
            if isinstance(message, m.Ping):
                await raw.send(m.Pong(message.request, int(time.time() * 1000)))
            elif isinstance(message, m.GetBlocks | m.GetHeaders):
                start = next((index[id] for id in message.locator if id in index), None)
                after = [] if start is None else blocks[start + 1 :]
                if isinstance(message, m.GetHeaders):
                    headers = tuple(block.header for block in after[: message.most])
                    await raw.send(m.Headers(message.request, headers))
                else:
                    await raw.send(m.Blocks(message.request, tuple(block.raw for block in after[:128])))
    return asked


async def test_a_liar_with_fake_dense_headers_costs_little_and_is_banned(make, world):
    builder, trunk, honest, _ = world
    joiner = make(1, trunk + honest)
    first = builder.mint(trunk[-1].header, FORK + 1, [], seat=bytes(32))  # signed, by a seat that it has not
    fake = [first, *branch(builder, first.header, range(FORK + 2, FORK + 60))]
    async with running(joiner), raw_peer(joiner) as raw:
        genesis = Block(builder.genesis, ())
        await raw.greet(joiner, height=1000, tip=fake[-1].id)
        started = time.process_time()
        asked = await serve_headers(raw, [genesis, *trunk, *fake])
        spent = time.process_time() - started
    assert raw.goodbye is not None and raw.goodbye.code == "invalid_block" and "not_leader" in raw.goodbye.reason
    assert joiner.chain.tip.id == honest[-1].id and joiner.branches.adopted == 0
    assert joiner.p2p.refusals[-1].code == "invalid_block"
    assert sum(isinstance(message, m.GetHeaders) for message in asked) <= 4
    assert sum(isinstance(message, m.GetBlocks) for message in asked) <= 2
    assert spent < 5


async def test_headers_without_a_signature_or_a_link_are_punished_before_a_block_is_fetched(make, world):
    builder, trunk, _, private = world
    dense = branch(builder, trunk[-1].header, range(FORK + 1, FORK + 23))
    forged = Block(dataclasses.replace(dense[3].header, signature=bytes(64)), dense[3].transactions)
    lies = {
        "invalid_block": [*dense[:3], forged],
        "bad_batch": [*dense[:3], *dense[4:]],  # found in the blocks already
    }
    for seed, (code, lie) in enumerate(lies.items(), 2):
        joiner = make(seed, trunk + private)
        async with running(joiner), raw_peer(joiner) as raw:
            await raw.greet(joiner, height=1000, tip=dense[-1].id)
            asked = await serve_headers(raw, [Block(builder.genesis, ()), *trunk, *dense][: len(trunk) + 1] + lie)
            assert raw.goodbye is not None and raw.goodbye.code == code
            assert joiner.chain.tip.id == private[-1].id
        assert sum(isinstance(message, m.GetBlocks) for message in asked) <= 1


async def test_headers_without_blocks_cost(make, world):
    builder, trunk, _, private = world
    joiner = make(1, trunk + private)
    dense = branch(builder, trunk[-1].header, range(FORK + 1, FORK + 23))
    chain = [Block(builder.genesis, ()), *trunk, *dense]
    async with running(joiner), raw_peer(joiner) as raw:
        await raw.greet(joiner, height=1000, tip=dense[-1].id)
        task = asyncio.create_task(serve_headers(raw, chain))
        served = []
        raw_send = raw.send

        async def send(message):
            if isinstance(message, m.Blocks) and served:
                message = m.Blocks(message.request, ())
            served.extend([message] if isinstance(message, m.Blocks) else [])
            await raw_send(message)

        raw.send = send
        await until(lambda: joiner.p2p.peers() and joiner.p2p.peers()[0].score > 15)
        assert joiner.chain.tip.id == private[-1].id
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_checkpoint_ahead_leads_off_a_private_branch_however_dense(make, world):
    builder, trunk, honest, _ = world
    pay = transfer(USERS[0], 0, USERS[1].address, 5)
    trap = branch(
        builder, trunk[-1].header, range(6, 6 + 45), pay
    )  # denser than the honest branch, and forged long ago
    liar, good = make(1, trunk + trap, joining=False), make(2, trunk + honest, joining=False)
    joiner = make(3, checkpoints=[Checkpoint(honest[50].header.height, honest[50].id)])
    async with running(liar):
        joiner.settings = dataclasses.replace(joiner.settings, peers=(address(liar),))
        async with running(joiner):
            await until(lambda: joiner.chain.tip.id == trap[-1].id)
            good.settings = dataclasses.replace(good.settings, peers=(address(joiner),))
            async with running(good):
                await until(lambda: joiner.chain.tip.id == honest[-1].id)
    assert joiner.chain.verify() == []


async def test_a_peer_on_another_branch_than_the_checkpoint_is_dropped(make, world):
    _, trunk, honest, private = world
    liar = make(1, trunk + private, joining=False)
    joiner = make(2, checkpoints=[Checkpoint(honest[5].header.height, honest[5].id)])
    async with running(liar):
        joiner.settings = dataclasses.replace(joiner.settings, peers=(address(liar),))
        async with running(joiner):
            await until(lambda: any(refusal.code == "invalid_block" for refusal in joiner.p2p.refusals))
            assert "not_the_checkpoint" in joiner.p2p.refusals[-1].reason
            assert joiner.chain.height < honest[5].header.height


async def test_the_fork_is_found_in_a_long_chain(make):
    builder = Builder(TestRules())
    trunk = branch(builder, builder.genesis, range(1, 701))
    ours, theirs = (
        branch(builder, trunk[-1].header, range(702, 740, 2)),
        branch(builder, trunk[-1].header, range(701, 740)),
    )
    joiner, good = make(1, trunk + ours), make(2, trunk + theirs, joining=False)
    for host in (joiner, good):
        host.slot = lambda: 745
    assert blocks_in_window(joiner.chain, trunk[-1].header, 20) == 10
    async with running(good):
        joiner.settings = dataclasses.replace(joiner.settings, peers=(address(good),))
        async with running(joiner):
            await until(lambda: joiner.chain.tip.id == theirs[-1].id, 20)
            assert joiner.branches.adopted == 1
