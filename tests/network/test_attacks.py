"""A real node, a real training, a real beacon: what a cheat may reveal, and how the node refuses it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from chain import accounts
from chain.artifact import artifact_id
from chain.encoding import Record
from chain.errors import BadBlock, Invalid, Refuted
from chain.merkle import merkle_path, merkle_root
from chain.types import Block, Kind, Transaction, sign_transaction, transactions_root
from consensus import exact, records, vdf
from consensus.datasets import digits
from consensus.facts import INVALID_MODEL, score_fact
from consensus.spaces import get_space
from consensus.tasks import input_shape
from consensus.types import BeaconBody, CommitBody, Payout, RevealBody, seal
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from ponas_node.oracle import FOR_BLOCK
from tests.network.cluster import key, small_genesis, small_task

OWNER = key(2)
SALT = bytes(32)


class Lone:
    """A node whose clock and minting the test controls; key 1 owns the only bootstrap seat."""

    def __init__(self, root: Path) -> None:
        self.time = 0.0
        genesis = small_genesis(bootstrap=1)
        self.node = Node(NodeConfig(root), genesis, clock=lambda: self.time)
        self.node.artifacts.put(exact_dataset())
        self.parameters = genesis.consensus

    def draft(self, *transactions: Transaction) -> Block:
        """A block of the present slot with exactly these transactions, whether or not they apply."""
        chain, slot = self.node.chain, self.node.slot()
        seat = self.node.rules.leader(chain.state, chain.tip, slot)
        header, chosen = chain.draft(slot, seat, key(1).public, transactions)
        carried = (chosen[0], *transactions)
        header = dataclasses.replace(header, transactions_root=transactions_root(carried))
        return Block(header.signed(key(1), self.node.network), carried)

    async def mint(self, slot: int, *transactions: Transaction) -> None:
        self.time = self.parameters.time_of(slot) + 0.01
        for transaction in transactions:
            await self.node.submit_transaction(transaction)
        await self.node.submit_block(self.draft(*transactions))

    def sign(self, kind: Kind, body: Record, fee: int = 10_000_000) -> Transaction:
        nonce = self.node.next_nonce(OWNER.address)
        return sign_transaction(OWNER, self.node.network, kind, nonce, fee, body)


def exact_dataset() -> bytes:
    from consensus.datasets import encode_dataset

    return encode_dataset(digits())


def train(seed: bytes) -> tuple[bytes, exact.Training]:
    spec = small_task()
    space = get_space(spec.space)
    genotype = next(
        found
        for found in (space.sample(random.Random(n)) for n in range(1000))
        if fits(space, found, spec) and space.cost(found, input_shape(spec)).macs <= spec.max_macs
    )
    recipe = exact.Recipe(steps=spec.steps, batch=spec.batch, segments=spec.segments, learning_rate=spec.learning_rate)
    return genotype, exact.train(space.decode(genotype, input_shape(spec)), digits(), recipe, seed)


def fits(space, genotype: bytes, spec) -> bool:
    try:
        space.decode(genotype, input_shape(spec))
    except ValueError:
        return False
    return True


async def test_only_the_true_score_of_a_sealed_model_is_accepted(tmp_path: Path) -> None:
    lone = Lone(tmp_path / "node")
    node = lone.node
    try:
        await run_attacks(lone)
        assert node.chain.verify() == []
    finally:
        await node.oracle.stop()
        node.store.close()


async def run_attacks(lone: Lone) -> None:
    node, p = lone.node, lone.parameters
    await lone.mint(1)
    epoch = records.current_epoch(node.chain.state)
    genotype, honest = train(epoch.seed)
    truncated, edited = honest.model[:-1], bytes([honest.model[0] ^ 1]) + honest.model[1:]
    entries = []
    for model in (honest.model, truncated, edited):
        node.artifacts.put(model)
        entries.append((genotype, (*honest.leaves[:-1], artifact_id(model)), len(model)))
    seals = [seal(g, leaves, OWNER.public, SALT) for g, leaves, _ in entries]
    commit = lone.sign(Kind.COMMIT, CommitBody(0, epoch.seed, merkle_root(seals), len(seals)))
    await lone.mint(2, commit)
    await lone.mint(p.commit_close)
    boundary = records.current_epoch(node.chain.state).boundary
    output = vdf.prove(boundary, p.vdf_discriminant_bits, p.vdf_iterations)

    # A beacon that is not the delay function's output.
    forged = lone.sign(Kind.BEACON, BeaconBody(0, output[:50] + bytes([output[50] ^ 1]) + output[51:]), fee=0)
    await refused(lone, forged, "bad_beacon")
    await lone.mint(p.commit_close + 1, lone.sign(Kind.BEACON, BeaconBody(0, output), fee=0))
    await lone.mint(p.reveal_open)

    def reveal(i: int, correct: int) -> Transaction:
        g, leaves, size = entries[i]
        body = RevealBody(
            commit.id, i, merkle_path(seals, i), SALT, g, leaves, size, correct, (Payout(OWNER.address, 1),)
        )
        return lone.sign(Kind.REVEAL, body)

    epoch = records.current_epoch(node.chain.state)
    fact = score_fact(small_task(), epoch, genotype, honest.leaves[-1], len(honest.model))
    score = await node.oracle.establish(fact, FOR_BLOCK)
    assert score != INVALID_MODEL
    await refused(lone, reveal(0, score + 1), "wrong_score")
    await refused(lone, reveal(0, score - 1), "wrong_score")
    await refused(lone, reveal(1, score), "bad_model")
    await refused(lone, reveal(2, score), "bad_model")
    await lone.mint(p.reveal_open + 1, reveal(0, score))
    results = records.results_of(node.chain.state, records.current_epoch(node.chain.state))
    assert [result.correct for result in results] == [score]
    await lone.mint(p.reveal_close)
    assert len(records.need_epoch(node.chain.state, 0).winners) == 1


async def refused(lone: Lone, transaction: Transaction, code: str) -> None:
    """Neither the mempool nor a block takes it, and nothing changes."""
    tip = lone.node.chain.tip
    lone.time = lone.parameters.time_of(tip.slot + 1) + 0.01
    before = accounts.account(lone.node.chain.state, OWNER.address)
    with pytest.raises(Refuted) as caught:
        await lone.node.submit_transaction(transaction)
    assert caught.value.code == code
    with pytest.raises(BadBlock) as blocked:
        await lone.node.submit_block(lone.draft(transaction))
    assert blocked.value.code == code
    assert lone.node.chain.tip == tip and len(lone.node.mempool) == 0
    assert accounts.account(lone.node.chain.state, OWNER.address) == before


async def test_a_block_of_a_slot_that_has_not_begun_waits(tmp_path: Path) -> None:
    lone = Lone(tmp_path / "node")
    try:
        lone.time = lone.parameters.time_of(9)
        early = lone.draft()
        lone.time = lone.parameters.time_of(5)
        with pytest.raises(Invalid) as caught:
            await lone.node.submit_block(early)
        assert caught.value.code == "early"
        lone.time = lone.parameters.time_of(9)
        await lone.node.submit_block(early)
        assert lone.node.chain.height == 1
    finally:
        await lone.node.oracle.stop()
        lone.node.store.close()
