"""Audits results as `ponas_node.auditor` does, with the real choice of which; one audit takes a slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.simulation.oracle import state_behind, training_leaves
from chain.chain import Chain
from chain.errors import NotApplicable
from chain.hashing import digest
from chain.state import StateView
from consensus import records
from consensus.challenge import find_open
from consensus.tasks import state_bytes_bound
from consensus.types import ChallengeBody, ResultRecord
from ponas_node.audit_choice import choose

if TYPE_CHECKING:
    from bench.simulation.node import Node

_RATE = 1  # results of each epoch that are drawn at random: a node's `--audit-rate` unless it is told otherwise
_TIPS = 64  # whose competitions are remembered

Results = tuple[bytes, tuple[ResultRecord, ...]]
"""Results of a competition, and before them a hash that changes where one is revoked."""


class Competitions:
    """The results of competitions, which all auditors look at, read once for each tip."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, int], Results] = {}

    def results(self, chain: Chain, epoch: int) -> Results:
        """Those of a settled epoch, on the chain's branch."""
        place = chain.tip.id, epoch
        known = self._known.get(place)
        if known is None:
            found = records.results_of(chain.state, records.need_epoch(chain.state, epoch))
            version = digest("simulated-results", *(result.id + bytes([result.revoked]) for result in found))
            known = self._known[place] = version, tuple(found)
            if len(self._known) > _TIPS:
                del self._known[next(iter(self._known))]
        return known


class Auditor:
    """Audits for one node. What it has found survives a crash; the audit under way does not."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._secret = digest("simulated-secret", node.key)
        self._found: dict[bytes, ChallengeBody | None] = {}  # by result; None where it is genuine
        self._due: dict[int, tuple[bytes, tuple[ResultRecord, ...]]] = {}  # what is to be audited of each epoch
        self._begun: tuple[int, bytes, ChallengeBody | None] | None = None  # slot, result, and what will be found

    def step(self, slot: int) -> None:
        """End the audit that began a slot ago, and begin the next."""
        if self._begun is not None and self._begun[0] == slot - 1:
            self._found[self._begun[1]] = self._begun[2]
        due = self._next()
        self._begun = None if due is None else (slot, due.id, audit(self._node.chain.state, due))

    def challenges(self) -> list[ChallengeBody]:
        """What can be challenged in the next block."""
        chain, parameters, found = self._node.chain, self._node.rules.consensus, []
        for body in filter(None, self._found.values()):
            try:
                find_open(chain.state, parameters, body.result, chain.height + 1)
            except NotApplicable:
                continue
            found.append(body)
        return found

    def _next(self) -> ResultRecord | None:
        chain, parameters = self._node.chain, self._node.rules.consensus
        for epoch in records.open_epochs(chain.state, parameters, chain.height + 1):
            for result in self._choose(epoch.number):
                if result.id not in self._found:
                    return result
        return None

    def _choose(self, number: int) -> tuple[ResultRecord, ...]:
        node = self._node
        version, results = node.world.competitions.results(node.chain, number)
        if number not in self._due or self._due[number][0] != version:
            task = records.need_task(node.chain.state, results[0].task)
            least, seats = task.spec.baseline_correct, node.rules.consensus.seats
            due = choose(results, least, seats, _RATE, node.signing.public, self._secret).due
            self._due[number] = version, due
        return self._due[number][1]


def audit(state: StateView, result: ResultRecord) -> ChallengeBody | None:
    """Train a result again: a challenge of its first false leaf, None where all are true."""
    true = training_leaves(result.genotype, records.need_epoch(state, result.epoch).seed)
    wrong = [place for place, leaf in enumerate(result.leaves) if leaf != true[place]]
    if not wrong:
        return None
    segment = max(0, wrong[0] - 1)
    if not segment:
        return ChallengeBody(result.id, 0, b"", 0)
    return ChallengeBody(result.id, segment, state_behind(true[segment]), state_bytes_bound(result.parameters))
