"""Cheats against real nodes: a forged training takes a seat and loses it; two blocks for one slot cost the seat."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

from bench.consensus_forgeries import FORGERIES
from chain import accounts
from chain.artifact import artifact_id
from chain.errors import Invalid
from chain.keys import PrivateKey
from chain.types import Block, Kind, Output, Transaction, TransferBody, sign_transaction
from consensus import records
from consensus.datasets import digits
from consensus.exact import Candidate as Training
from consensus.spaces import get_space
from consensus.tasks import input_shape
from consensus.types import Payout, ResultRecord
from ponas_node.client import NodeClient
from ponas_node.competitor import Competitor
from ponas_node.job_inputs import graph_of, recipe_of
from ponas_node.node import Node
from pool.work import Candidate, Work
from tests.network.cluster import Cluster, cluster, key

CHEAT = key(5)


class Forger:
    """Seals forged trainings of random architectures, one of each kind."""

    def __init__(self, node: Node, owner: PrivateKey, kinds: tuple[str, ...]) -> None:
        self._node = node
        self._owner = owner
        self._kinds = kinds
        self._made: dict[int, list[Candidate]] = {}
        self.competitor = Competitor(node, owner, self._candidates, lambda found, limit: (Payout(owner.address, 1),))

    def _candidates(self, work: Work, limit: int) -> list[Candidate]:
        if work.epoch not in self._made:
            rng = random.Random(work.epoch)
            self._made[work.epoch] = [self._forge(work, kind, rng) for kind in self._kinds]
        return self._made[work.epoch]

    def _forge(self, work: Work, kind: str, rng: random.Random) -> Candidate:
        space, shape = get_space(work.spec.space), input_shape(work.spec)
        while True:
            genotype = space.sample(rng)
            with contextlib.suppress(ValueError):
                if space.cost(genotype, shape).macs <= work.spec.max_macs:
                    break
        training = Training(graph_of(work.spec.encode(), genotype), digits(), recipe_of(work.spec), work.seed)
        leaves, model = FORGERIES[kind](training, rng)
        self._node.artifacts.put(model)
        return Candidate(genotype, leaves, artifact_id(model), len(model), 300, 300, self._owner.address)


def results_by(node: Node, owner: PrivateKey) -> list[ResultRecord]:
    state = node.chain.state
    epochs = [records.epoch(state, n) for n in range(records.current_epoch(state).number + 1)]
    found = [result for epoch in epochs if epoch is not None for result in records.results_of(state, epoch)]
    return [result for result in found if result.owner == owner.public]


def balance(node: Node, owner: PrivateKey) -> int:
    return accounts.account(node.chain.state, owner.address).balance


async def test_forged_trainings_lose_their_seats_on_all_nodes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as group:
        first = await group.start("first", key(1), audit_rate=8)
        second = await group.start("second", key(2), audit_rate=0, prover_delay=2)
        solo = await group.start("solo", key(6), solo=True, audit_rate=0, prover_delay=-1)
        late = await group.start("cheat", CHEAT, audit_rate=0, prover_delay=-1)
        late.spawn(Forger(late, CHEAT, ("trained_on_test", "edited_weights")).competitor.run())
        await group.until("the cheat holds a seat", lambda: any(r.seated for r in results_by(second, CHEAT)))
        forged = {result.id for result in results_by(second, CHEAT)}

        def revoked(node: Node) -> bool:
            found = [result for result in results_by(node, CHEAT) if result.id in forged]
            return len(found) == len(forged) and all(result.revoked for result in found)

        await group.until("every node revoked them", lambda: all(map(revoked, group.nodes.values())))
        for node in group.nodes.values():
            assert not forged & set(records.active_seats(node.chain.state))
        await group.until("the honest miner holds a seat", lambda: any(r.seated for r in results_by(first, key(6))))
        await group.until("all agree", lambda: len({node.chain.height for node in group.nodes.values()}) == 1)
        group.agree()
        for node in group.nodes.values():
            assert not any(result.revoked for result in results_by(node, key(6)))
        at_start = next(each.amount for each in group.genesis.allocations if each.address == CHEAT.address)
        assert balance(second, CHEAT) <= at_start - group.genesis.consensus.reveal_bond * len(forged)
        found = [node.counters()["forgeries_found"] for node in (first, second, solo)]
        assert sum(found) >= len(forged) and found[1] == 0
        assert second.counters()["segments_replayed"] >= len(forged), "who does not audit checks the challenge"
        await shown_by_api(solo, forged)


async def shown_by_api(node: Node, forged: set[bytes]) -> None:
    """The API tells of a revoked result."""
    async with NodeClient(f"http://127.0.0.1:{node.api_port}") as client:
        for id in forged:
            result = await client.get(f"/v1/results/{id.hex()}")
            assert (result["revoked"], result["seated"], result["bond"], result["reward"]) == (True, False, 0, 0)


async def test_an_auditor_that_was_killed_files_what_it_had_found(tmp_path: Path) -> None:
    async with cluster(tmp_path) as group:
        first = await group.start("first", key(1), audit_rate=0)
        second = await group.start("second", key(2), audit_rate=0, audit_share=1.0, prover_delay=2)
        await group.start("cheat", CHEAT, audit_rate=0, prover_delay=-1)
        cheat = group.nodes["cheat"]
        auditor = next(service for service in second.services if hasattr(service, "forgeries"))
        filed: list[bytes] = []

        async def not_yet(purpose: bytes, *_: object) -> None:
            filed.append(purpose)

        auditor._sender.send = not_yet
        cheat.spawn(Forger(cheat, CHEAT, ("swapped_leaves",)).competitor.run())
        await group.until("it would file", lambda: filed)
        assert not any(result.revoked for result in results_by(first, CHEAT))
        await group.stop("second")
        again = await group.start("second", key(2), audit_rate=0, audit_share=1.0, prover_delay=2)
        await group.until("the result is revoked", lambda: any(r.revoked for r in results_by(first, CHEAT)))
        assert again.counters()["audits"] == 0, "it does not audit twice"
        await group.until("all agree", lambda: len({node.chain.height for node in group.nodes.values()}) == 1)
        group.agree()


class Equivocator:
    """Owns a bootstrap seat, and signs two blocks whenever the slot is its own: one for each of two nodes."""

    def __init__(self, group: Cluster, owner: PrivateKey, payer: PrivateKey) -> None:
        self._group = group
        self._owner = owner
        self._payer = payer
        self.slots: set[int] = set()

    async def run(self, one: Node, two: Node) -> None:
        while True:
            await asyncio.sleep(0.02)
            slot = one.slot()
            if slot in self.slots or slot <= one.chain.tip.slot or one.chain.tip != two.chain.tip:
                continue
            seat = one.rules.leader(one.chain.state, one.chain.tip, slot)
            holder = records.seat_holder(one.chain.state, seat)
            if holder is None or holder[0] != self._owner.public:
                continue
            blocks = [self._block(one, slot, seat), self._block(one, slot, seat, self._transfer(one))]
            assert blocks[0].id != blocks[1].id
            with contextlib.suppress(Invalid):
                await asyncio.gather(one.receive_block(blocks[0], None), two.receive_block(blocks[1], None))
                self.slots.add(slot)

    def _block(self, node: Node, slot: int, seat: bytes, *transactions: Transaction) -> Block:
        header, chosen = node.chain.draft(slot, seat, self._owner.public, transactions)
        return Block(header.signed(self._owner, node.network), chosen)

    def _transfer(self, node: Node) -> Transaction:
        nonce = accounts.account(node.chain.state, self._payer.address).nonce
        body = TransferBody((Output(self._payer.address, 1),))
        return sign_transaction(self._payer, node.network, Kind.TRANSFER, nonce, 10_000_000, body)


async def test_two_blocks_for_one_slot_cost_the_seat_on_all_nodes(tmp_path: Path) -> None:
    async with cluster(tmp_path, bootstrap=3) as group:
        first = await group.start("first", key(1), prover_delay=-1)
        second = await group.start("second", key(2), prover_delay=-1)
        third = await group.start("third", key(4), prover_delay=-1)
        liar = Equivocator(group, key(3), key(6))
        before = records.ids(first.chain.state, records.BOOTSTRAP)
        first.spawn(liar.run(first, second))

        def punished(node: Node) -> bool:
            left = records.ids(node.chain.state, records.BOOTSTRAP)
            holders = [records.seat_holder(node.chain.state, seat) for seat in left]
            return all(holder is not None and holder[0] != key(3).public for holder in holders)

        await group.until("every node took the seat", lambda: all(map(punished, (first, second, third))))
        assert liar.slots
        for node in (first, second, third):
            assert len(records.ids(node.chain.state, records.BOOTSTRAP)) == len(before) - 1
        height = first.chain.height
        await group.until("the chain goes on", lambda: first.chain.height > height + 5)
        await group.until("all agree", lambda: len({node.chain.height for node in group.nodes.values()}) == 1)
        group.agree()
