"""A simulated network, put together from a setting and its faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from bench.simulation.auditor import Competitions
from bench.simulation.byzantine import Coalition
from bench.simulation.events import Events
from bench.simulation.execution import Execution, OwnExecution, SharedExecution
from bench.simulation.kinds import KINDS
from bench.simulation.miner import Miner
from bench.simulation.network import Network
from bench.simulation.node import Node
from bench.simulation.observer import Observer
from bench.simulation.oracle import Oracle
from bench.simulation.pending import Transactions
from bench.simulation.prover import Prover
from bench.simulation.setting import PROVERS, Setting, make_genesis, node_key
from bench.simulation.watch import Watch
from consensus.rules import ConsensusRules


class World:
    """All nodes, and all that they share. With `folder`, every node executes everything in a database of its own."""

    def __init__(self, setting: Setting, folder: Path | None = None) -> None:
        self.setting = setting
        self.keys = [node_key(index) for index in range(setting.nodes)]
        self.oracle = Oracle()
        self.rules = ConsensusRules(make_genesis(setting, self.keys), self.oracle)
        self.execution: Execution = SharedExecution(self.rules) if folder is None else OwnExecution(self.rules, folder)
        self.events = Events()
        self.network = Network(self.events, setting.seed, setting.nodes, setting.loss)
        self.transactions = Transactions()
        self.coalition = Coalition()
        self.competitions = Competitions()
        self.observer = Observer(self)
        self.late: set[int] = set()  # nodes that faults start later
        self.nodes = [Node(self, index) for index in range(setting.nodes)]
        self._owners = {node.signing.public: node for node in self.nodes}
        for index, kind in setting.byzantine.items():
            self.nodes[index].behaviour = KINDS[kind](self.nodes[index])
        for index, node in enumerate(self.nodes[: setting.miners]):
            compute = setting.compute[index % len(setting.compute)]
            node.miner = Miner(node, compute, setting)
            if node.behaviour.honest:
                node.watch = Watch(node)
        honest = [node for node in self.nodes if node.behaviour.honest]
        for delay, node in enumerate(honest[:PROVERS]):
            node.prover = Prover(node, delay)
        self._wire()

    def owner(self, public: bytes) -> Node:
        """The node whose key this is."""
        return self._owners[public]

    @property
    def honest(self) -> list[Node]:
        """The honest nodes that run."""
        return [node for node in self.nodes if node.alive and node.behaviour.honest]

    @property
    def best(self) -> Node:
        """The honest node with the highest chain."""
        return max(self.honest, key=lambda node: node.chain.height)

    def run(self, until: float | None = None, faults: Callable[[World], None] | None = None) -> None:
        """Start all nodes but late ones, and let time pass up to `until`. Raises Violation."""
        if faults is not None:
            faults(self)
        parameters = self.setting.consensus
        for epoch in range(1, self.setting.epochs):
            self.events.at(parameters.time_of(parameters.start(epoch)), self.transactions.new_epoch)
        for node in self.nodes:
            if node.index not in self.late:
                node.start()
        self.go_on(self.setting.end if until is None else until)

    def go_on(self, until: float) -> None:
        """Let time pass up to `until`."""
        self.events.run(until)

    def close(self) -> None:
        """Close the databases."""
        for node in self.nodes:
            if node.alive:
                self.execution.close(node.chain)

    def _wire(self) -> None:
        """Every node calls some random others for ever; those that withhold together call one another."""
        rng = random.Random(f"{self.setting.seed} links")
        for node in self.nodes:
            others = [other for other in range(self.setting.nodes) if other != node.index]
            chosen = rng.sample(others, min(self.setting.outbound, len(others)))
            node.configured = [self.nodes[index] for index in chosen]
        members = sorted(self.coalition.members)
        for index in members:
            for other in members:
                if other < index and self.nodes[other] not in self.nodes[index].configured:
                    self.nodes[index].configured.append(self.nodes[other])
