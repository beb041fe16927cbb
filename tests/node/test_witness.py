"""The witness: what it takes for evidence, what it remembers, and what a stranger cannot make it keep."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from chain.keys import PrivateKey
from chain.types import Block, Header, Kind
from consensus import records
from consensus.types import EvidenceBody
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from ponas_node.witness import Witness
from tests.network.cluster import key, small_genesis

OWNER, OTHER, REPORTER = key(1), key(2), key(4)


class Lone:
    """A node whose clock the test sets, with a witness; keys 1 and 2 own the bootstrap seats."""

    def __init__(self, root: Path) -> None:
        self.time = 0.0
        genesis = small_genesis(bootstrap=2)
        self.node = Node(NodeConfig(root), genesis, clock=lambda: self.time)
        self.parameters = genesis.consensus
        self.witness = Witness(self.node, REPORTER)

    async def mint(self, slot: int) -> Header:
        self.time = self.parameters.time_of(slot) + 0.01
        chain = self.node.chain
        seat = self.node.rules.leader(chain.state, chain.tip, slot)
        holder = records.seat_holder(chain.state, seat)
        assert holder is not None
        owner = next(each for each in (OWNER, OTHER) if each.public == holder[0])
        header, chosen = chain.draft(slot, seat, owner.public, self.node.mempool.best_first())
        block = Block(header.signed(owner, self.node.network), chosen)
        await self.node.submit_block(block)
        return block.header

    def twin(self, header: Header, **changes: Any) -> Header:
        owner = next(each for each in (OWNER, OTHER) if each.public == header.minter)
        changed = dataclasses.replace(header, **({"state_root": bytes(32)} | changes))
        return changed.signed(owner, self.node.network)

    def kept(self) -> list[EvidenceBody]:
        return [EvidenceBody.decode(value) for _, value in self.node.store.namespace(b"witness").iterate()]


@pytest.fixture
async def lone(tmp_path: Path):
    found = Lone(tmp_path / "node")
    yield found
    await found.node.oracle.stop()
    found.node.store.close()


async def file(lone: Lone) -> None:
    """What the witness does in the background, once."""
    for name, value in list(lone.node.store.namespace(b"witness").iterate()):
        await lone.witness._file(name, EvidenceBody.decode(value))


async def test_a_second_header_is_filed_once_and_costs_the_seat(lone: Lone) -> None:
    header = await lone.mint(1)
    for _ in range(3):
        lone.witness.see(lone.twin(header))
    assert [body.first for body in lone.kept()] == [header]
    for _ in range(3):
        await file(lone)
    (evidence,) = lone.node.mempool.transactions()
    assert evidence.kind == Kind.EVIDENCE
    await lone.mint(2)
    assert header.seat not in records.ids(lone.node.chain.state, records.BOOTSTRAP)
    await file(lone)
    assert len(lone.node.mempool) == 0
    assert lone.witness.counters() == {"equivocations_seen": 1}


async def test_the_same_header_with_another_signature_is_none(lone: Lone) -> None:
    header = await lone.mint(1)
    lone.witness.see(dataclasses.replace(header, signature=bytes(64)))
    lone.witness.see(header)
    assert lone.kept() == []


async def test_it_knows_the_headers_again_after_a_restart(lone: Lone, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [await lone.mint(slot) for slot in range(1, 6)]
    lone.witness.see(lone.twin(headers[0]))
    monkeypatch.setattr(lone.node, "spawn", lambda work: work.close())
    again = Witness(lone.node, REPORTER)
    await again.start()
    again.see(lone.twin(headers[0]))
    again.see(lone.twin(headers[2]))
    assert sorted(body.first.slot for body in lone.kept()) == [1, 3]
    assert again.counters() == {"equivocations_seen": 1}, "the other one was known"


async def test_strangers_and_old_headers_are_not_kept(lone: Lone) -> None:
    header = await lone.mint(1)
    for n in range(50):
        stranger = PrivateKey(n.to_bytes(32, "big"))
        forged = dataclasses.replace(header, minter=stranger.public)
        lone.witness.see(forged.signed(stranger, lone.node.network))
        lone.witness.see(dataclasses.replace(forged, state_root=bytes(32)).signed(stranger, lone.node.network))
    assert lone.kept() == [] and len(lone.witness._seen) == 1
    window = lone.parameters.challenge_blocks
    await lone.mint(window + 1)
    assert len(lone.witness._seen) == 2
    old = lone.twin(header, slot=1, height=7)
    lone.witness._seen.clear()
    lone.witness.see(old)
    assert not lone.witness._seen, "no block could carry evidence of that slot any more"


async def test_its_own_key_is_not_accused(lone: Lone) -> None:
    header = await lone.mint(1)
    owner = next(each for each in (OWNER, OTHER) if each.public == header.minter)
    own = Witness(lone.node, owner)
    own.see(header)
    own.see(lone.twin(header))
    assert own.counters() == {"equivocations_seen": 0}
