"""Forged results among honest ones: found by audits, proven by challenges that every node judges by itself."""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

from bench.consensus_forgeries import FORGERIES, honest
from bench.consensus_site import AUDITOR, Site
from chain.chain import Chain
from chain.types import Kind, Transaction
from consensus import records
from consensus.datasets import Dataset, digits, encode_dataset
from consensus.exact import Candidate, train
from consensus.facts import TRUE, ChallengeFact
from consensus.types import ChallengeBody, TaskSpec
from ponas_node import replays
from ponas_node.artifacts import ArtifactStore
from ponas_node.job_inputs import graph_of, recipe_of
from ponas_node.testnet.genesis import digits_task
from pool.subspace import Domain

SEED = 20261123
PEERS = 3
FORGED, HONEST, PER_EPOCH = 200, 1000, 120
T = TypeVar("T")


def small_task() -> TaskSpec:
    """A task whose trainings take some hundredths of a second."""
    return dataclasses.replace(
        digits_task(), steps=24, batch=16, segments=6, max_macs=100_000, max_parameters=20_000, baseline=0,
        bounty_per_epoch=0,
    )  # fmt: skip


def detection(options: argparse.Namespace) -> dict[str, Any]:
    """Every result is audited by somebody who does not know which are forged; what differs is challenged."""
    forged, honest_ones = (FORGED // 10, HONEST // 50) if options.quick else (FORGED, HONEST)
    rng = random.Random(SEED)
    kinds = [list(FORGERIES)[i % len(FORGERIES)] for i in range(forged)]
    plan: list[str | None] = [*kinds, *[None] * honest_ones]
    rng.shuffle(plan)
    data, spec = digits(), small_task()
    found: Counter[str | None] = Counter()
    revoked: Counter[str | None] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), spec, PEERS)
        site.artifacts.put(encode_dataset(data))
        for start in range(0, len(plan), PER_EPOCH):
            part = plan[start : start + PER_EPOCH]
            ids = _compete(site, spec, data, part, rng)
            challenged = _challenge_all(site, spec, ids)
            found.update(part[ids.index(id)] for id in challenged)
            for kind, id in zip(part, ids, strict=True):
                revoked[kind] += all(_is_revoked(peer.chain, id) for peer in site.peers)
        site.close()
    by_kind = {kind: revoked[kind] for kind in FORGERIES}
    return {
        "detection": sum(by_kind.values()) / forged,
        "false_challenges": found[None],
        "forged": forged,
        "honest": honest_ones,
        "honest_revoked": revoked[None],
        "nodes": PEERS,
        "revoked_by_kind": by_kind,
    }


def _compete(site: Site, spec: TaskSpec, data: Dataset, plan: list[str | None], rng: random.Random) -> list[bytes]:
    """Train, seal and reveal one result for each entry of the plan: a kind of forgery, or None for an honest one."""
    epoch = records.current_epoch(site.first.chain.state)
    claims = []
    for kind in plan:
        genotype = draw(spec, rng)
        candidate = Candidate(graph_of(spec.encode(), genotype), data, recipe_of(spec), epoch.seed)
        leaves, model = honest(candidate) if kind is None else FORGERIES[kind](candidate, rng)
        site.artifacts.put(model)
        claims.append((genotype, leaves, len(model)))
    return site.compete(claims)


def _challenge_all(site: Site, spec: TaskSpec, ids: list[bytes]) -> list[bytes]:
    """Audit results and challenge what is false, all in the next block; returns the challenged ones."""
    state = site.first.chain.state
    transactions: list[Transaction] = []
    challenged: list[bytes] = []
    for id in ids:
        result = records.result(state, id)
        epoch = records.epoch(state, result.epoch) if result is not None else None
        if result is None or epoch is None:
            raise RuntimeError("a result is not on the chain")
        audit = replays.audit(
            spec.encode(), result.genotype, epoch.seed, list(result.leaves), str(site.artifacts.root), "cpu"
        )
        segment, raw = ended(audit)
        if segment >= 0:
            body = ChallengeBody(id, segment, site.artifacts.put(raw) if raw else b"", len(raw))
            transactions.append(site.sign(AUDITOR, Kind.CHALLENGE, body, after=len(challenged)))
            challenged.append(id)
    site.mint(*transactions)
    return challenged


def _is_revoked(chain: Chain, id: bytes) -> bool:
    result = records.result(chain.state, id)
    return result is not None and result.revoked


def fraud_proof_cost(options: argparse.Namespace) -> dict[str, Any]:
    """What the check of a challenge takes of the time of the whole training, on the testnet's task; processor time."""
    spec, data, rng = digits_task(), digits(), random.Random(SEED)
    parts, seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        artifacts = ArtifactStore(Path(name))
        artifacts.put(encode_dataset(data))
        for number in range(-1, 4 if options.quick else 24):  # the first warms up, as a node's validator is
            genotype, seed = draw(spec, rng), rng.randbytes(32)
            candidate = Candidate(graph_of(spec.encode(), genotype), data, recipe_of(spec), seed)
            segment = rng.randrange(1, spec.segments)
            states: list[bytes] = []
            leaves = _train(candidate, states)
            started = time.process_time()
            honest(candidate)
            whole = time.process_time() - started
            fact = ChallengeFact(
                spec, genotype, seed, segment, leaves[segment], bytes(32), artifacts.put(states[segment]),
                len(states[segment]),
            )  # fmt: skip
            started = time.process_time()
            if replays.challenge(fact.encode(), str(artifacts.root), "cpu") != TRUE:
                raise RuntimeError("a false leaf was not proven")
            if number >= 0:
                seconds.append(time.process_time() - started)
                parts.append(seconds[-1] / whole)
    return {
        "fraud_proof_cost": {
            "of_training_median": round(statistics.median(parts), 4),
            "of_training_most": round(max(parts), 4),
            "bar": round(1.2 / spec.segments, 4),
            "seconds_median": round(statistics.median(seconds), 3),
            "seconds_most": round(max(seconds), 3),
            "trainings": len(parts),
        }
    }


def _train(candidate: Candidate, states: list[bytes]) -> tuple[bytes, ...]:
    """The leaves of an honest training; its states go to `states`."""
    done = train(
        candidate.graph, candidate.dataset, candidate.recipe, candidate.seed,
        on_state=lambda state: states.append(state.encode()),
    )  # fmt: skip
    return done.leaves


def draw(spec: TaskSpec, rng: random.Random) -> bytes:
    """A random genotype within the task's limits."""
    domain = Domain(spec)
    while domain.cost(genotype := domain.space.sample(rng)) is None:
        pass
    return genotype


def ended(run: Generator[Any, None, T]) -> T:
    """Run a job to its end; returns its answer."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            answer: T = end.value
            return answer
