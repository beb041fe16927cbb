"""Judges a stopped testnet by what is on its disks: one report, and a list of everything that is wrong.

Nothing is taken on a node's word: every database is opened, verified, and walked block by block.
"""

from __future__ import annotations

from typing import Any

from chain import accounts
from chain.chain import Chain
from chain.keys import address_of, address_text
from chain.store import Store
from chain.types import CoinbaseBody
from consensus import records
from consensus.facts import ScoreFact, fact_key, score_fact
from consensus.genesis import Genesis
from consensus.rules import ConsensusRules
from consensus.types import EpochRecord, ResultRecord
from ponas_node.database.feeding import StoredFacts
from ponas_node.testnet.layout import FULL_NODES, MEMBERS, NODES, POOL, SOLO, Layout

Json = dict[str, Any]
_MOST_APART = 2  # blocks by which the nodes' tips may differ when they are stopped
_ENOUGH_EPOCHS = 3  # in fewer, chance alone can leave a miner without a seat


class NodeAudit:
    """One node's database, opened read-only in effect."""

    def __init__(self, layout: Layout, name: str, genesis: Genesis) -> None:
        self.name = name
        self.store = Store(layout.data(name) / "db", genesis.network, create=False)
        self.facts = StoredFacts(self.store)
        self.chain = Chain(self.store, ConsensusRules(genesis, self.facts))
        self.damage = self.chain.verify()

    def roots(self) -> dict[int, str]:
        """State root by height."""
        found = {}
        for height in range(self.chain.height + 1):
            block = self.chain.block_at(height)
            if block is not None:
                found[height] = block.header.state_root.hex()
        return found

    def epochs(self) -> list[EpochRecord]:
        """All settled epochs."""
        last = records.current_epoch(self.chain.state).number
        found = (records.epoch(self.chain.state, n) for n in range(last))
        return [epoch for epoch in found if epoch is not None and epoch.settled]

    def balances(self) -> dict[bytes, int]:
        """Every account's balance."""
        prefix = len(accounts.ACCOUNT)
        return {
            key[prefix:]: accounts.Account.decode(value).balance
            for key, value in self.store.state.items()
            if key.startswith(accounts.ACCOUNT)
        }


def audit(layout: Layout, epochs_wanted: int) -> Json:
    """The report of a stopped testnet; `problems` is empty where all went well."""
    genesis = layout.genesis()
    nodes = {name: NodeAudit(layout, name, genesis) for name in FULL_NODES}
    try:
        return _report(layout, nodes, epochs_wanted)
    finally:
        for node in nodes.values():
            node.store.close()


def _report(layout: Layout, nodes: dict[str, NodeAudit], epochs_wanted: int) -> Json:
    problems = [f"{name}: {damage}" for name, node in nodes.items() for damage in node.damage]
    names = {address: name for name, address in layout.addresses().items()}
    best = max(nodes.values(), key=lambda node: node.chain.height)
    epochs = best.epochs()
    results = [result for epoch in epochs for result in records.results_of(best.chain.state, epoch)]
    seats = _seats_by_owner(best, epochs, names)
    payments = _payments(best, names)
    problems += _disagreements(nodes)
    problems += _unevaluated(nodes, epochs)
    problems += _bad_seats(best, epochs)
    problems += [f"result {result.id.hex()[:16]} was revoked" for result in results if result.revoked]
    if epochs_wanted >= _ENOUGH_EPOCHS:
        problems += _idle(seats, payments)
    if len(epochs) < epochs_wanted:
        problems.append(f"{len(epochs)} epochs were settled, {epochs_wanted} were wanted")
    supply = {name: _supply(node) for name, node in nodes.items()}
    problems += [f"{name}: supply {s['supply']} but balances sum to {s['balances']}" for name, s in supply.items()
                 if s["supply"] != s["balances"]]  # fmt: skip
    balances = best.balances()
    return {
        "ok": not problems,
        "problems": problems,
        "epochs": len(epochs),
        "nodes": {
            name: {
                "height": node.chain.height,
                "tip": node.chain.tip.id.hex(),
                "state_root": node.chain.tip.state_root.hex(),
            }
            for name, node in nodes.items()
        },
        "blocks": best.chain.height,
        "results_revealed": len(results),
        "results_reevaluated": {name: _evaluated(node, results) for name, node in nodes.items()},
        "accuracy_by_epoch": [_best_accuracy(best, epoch) for epoch in epochs],
        "best_accuracy": max((result.correct / result.total for result in results), default=0.0),
        "seats_won": seats,
        "coinbase_paid": payments,
        "coinbase_paid_to_pool_members": {name: payments.get(name, 0) for name in MEMBERS},
        "balances": {names.get(a, address_text(a)): amount for a, amount in sorted(balances.items())},
        "supply": supply,
    }


def _disagreements(nodes: dict[str, NodeAudit]) -> list[str]:
    problems = []
    heights = {name: nodes[name].chain.height for name in NODES}
    if max(heights.values()) - min(heights.values()) > _MOST_APART:
        problems.append(f"tips differ by more than {_MOST_APART} blocks: {heights}")
    roots = {name: node.roots() for name, node in nodes.items()}
    common = range(min(node.chain.height for node in nodes.values()) - _MOST_APART + 1)
    for height in common:
        if len({roots[name].get(height) for name in nodes}) > 1:
            problems.append(f"the nodes have different state roots at height {height}")
            break
    return problems


def _score_fact(node: NodeAudit, result: ResultRecord) -> ScoreFact | None:
    task = records.task(node.chain.state, result.task)
    epoch = records.epoch(node.chain.state, result.epoch)
    if task is None or epoch is None:
        return None
    return score_fact(task.spec, epoch, result.genotype, result.model, result.model_bytes)


def _evaluated(node: NodeAudit, results: list[ResultRecord]) -> int:
    """How many results this node evaluated itself, to the score on the chain."""
    count = 0
    for result in results:
        fact = _score_fact(node, result)
        count += fact is not None and node.facts.get(fact_key(fact)) == result.correct
    return count


def _unevaluated(nodes: dict[str, NodeAudit], epochs: list[EpochRecord]) -> list[str]:
    problems = []
    for name, node in nodes.items():
        known = [epoch for epoch in epochs if records.epoch(node.chain.state, epoch.number) == epoch]
        own = [result for epoch in known for result in records.results_of(node.chain.state, epoch)]
        if _evaluated(node, own) != len(own):
            problems.append(f"{name} has results on its chain that it did not evaluate")
    return problems


def _bad_seats(node: NodeAudit, epochs: list[EpochRecord]) -> list[str]:
    if not any(epoch.winners for epoch in epochs):
        return ["no competition has had a result"]
    state = node.chain.state
    unbacked = [seat for seat in records.won_seats(state) if records.result(state, seat) is None]
    return [f"seat {seat.hex()[:16]} is not held by a result" for seat in unbacked]


def _seats_by_owner(node: NodeAudit, epochs: list[EpochRecord], names: dict[bytes, str]) -> dict[str, int]:
    won: dict[str, int] = {}
    for epoch in epochs:
        for winner in epoch.winners:
            result = records.result(node.chain.state, winner)
            if result is not None:
                owner = address_of(result.owner)
                name = names.get(owner, address_text(owner))
                won[name] = won.get(name, 0) + 1
    return won


def _payments(node: NodeAudit, names: dict[bytes, str]) -> dict[str, int]:
    paid: dict[str, int] = {}
    for height in range(1, node.chain.height + 1):
        block = node.chain.block_at(height)
        if block is None:
            continue
        for output in CoinbaseBody.decode(block.transactions[0].body).outputs:
            name = names.get(output.address, address_text(output.address))
            paid[name] = paid.get(name, 0) + output.amount
    return paid


def _idle(seats: dict[str, int], payments: dict[str, int]) -> list[str]:
    """Who came away with nothing although the testnet is built so that everybody gets something."""
    problems = [f"{name} was paid nothing" for name in MEMBERS if not payments.get(name)]
    if not seats.get(POOL):
        problems.append("the pool won no seat")
    if not seats.get(SOLO):
        problems.append("the solo miner won no seat")
    return problems


def _supply(node: NodeAudit) -> dict[str, int]:
    return {"supply": accounts.supply(node.chain.state), "balances": sum(node.balances().values())}


def _best_accuracy(node: NodeAudit, epoch: EpochRecord) -> float | None:
    if not epoch.winners:
        return None
    result = records.result(node.chain.state, epoch.winners[0])
    return None if result is None else result.correct / result.total
