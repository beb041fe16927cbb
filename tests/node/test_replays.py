"""Audit and challenge as a worker runs them, with real trainings: every kind of forgery is proven, no honest one is."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from pathlib import Path

import pytest

from bench.consensus_forgeries import FORGERIES, honest
from chain.artifact import artifact_id
from consensus.datasets import digits, encode_dataset
from consensus.exact import Candidate, initial_state, run_segment
from consensus.facts import FALSE, TRUE, ChallengeFact, artifacts_of
from consensus.types import TaskSpec
from ponas_node.job_inputs import graph_of, recipe_of
from ponas_node.replays import audit, challenge
from tests.miner.test_replay_job import outcome
from tests.network.cluster import small_task

GENOTYPE = bytes(15)
SEED = bytes([5]) * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = encode_dataset(digits())
    (tmp_path / artifact_id(data).hex()).write_bytes(data)
    return tmp_path


@pytest.fixture
def spec() -> TaskSpec:
    return dataclasses.replace(small_task(), steps=16, batch=8, segments=4, max_macs=10**7)


@pytest.fixture
def candidate(spec: TaskSpec) -> Candidate:
    return Candidate(graph_of(spec.encode(), GENOTYPE), digits(), recipe_of(spec), SEED)


def store(folder: Path, state: bytes) -> tuple[bytes, int]:
    (folder / artifact_id(state).hex()).write_bytes(state)
    return artifact_id(state), len(state)


def fact_of(spec: TaskSpec, leaves: tuple[bytes, ...], segment: int, state: tuple[bytes, int]) -> ChallengeFact:
    return ChallengeFact(spec, GENOTYPE, SEED, segment, *leaves[segment : segment + 2], *state)


def judge(folder: Path, fact: ChallengeFact) -> int:
    return challenge(fact.encode(), str(folder), "cpu")


def examine(folder: Path, spec: TaskSpec, leaves: tuple[bytes, ...]) -> tuple[int, bytes, int]:
    """(segment, state before it, steps run) of an audit."""
    (segment, state), steps = outcome(audit(spec.encode(), GENOTYPE, SEED, list(leaves), str(folder), "cpu"))
    return segment, state, steps


@pytest.mark.parametrize("kind", FORGERIES)
def test_every_forgery_is_proven_by_one_segment(kind: str, folder: Path, spec: TaskSpec, candidate: Candidate) -> None:
    for seed in range(3):
        print(f"{kind}, seed {seed}")
        leaves, _ = FORGERIES[kind](candidate, random.Random(seed))
        segment, state, steps = examine(folder, spec, leaves)
        assert 0 <= segment <= spec.segments
        assert steps <= (segment + 1) * spec.steps // spec.segments + 1
        named = store(folder, state) if segment else (b"", 0)
        fact = fact_of(spec, leaves, segment, named)
        assert [size for _, size in artifacts_of(fact)] == [spec.dataset_bytes] + [len(state)] * bool(segment)
        assert judge(folder, fact) == TRUE


def test_an_honest_training_withstands_every_challenge(folder: Path, spec: TaskSpec, candidate: Candidate) -> None:
    leaves, _ = honest(candidate)
    assert examine(folder, spec, leaves) == (-1, b"", spec.steps)
    state = initial_state(candidate.graph, SEED)
    assert judge(folder, fact_of(spec, leaves, 0, (b"", 0))) == FALSE
    for segment in range(spec.segments):
        state = run_segment(candidate.graph, candidate.dataset, candidate.recipe, SEED, state, segment)
        assert judge(folder, fact_of(spec, leaves, segment + 1, store(folder, state.encode()))) == FALSE


def test_a_state_that_is_not_that_of_the_leaf_proves_nothing(
    folder: Path, spec: TaskSpec, candidate: Candidate
) -> None:
    leaves, _ = honest(candidate)
    state = run_segment(
        candidate.graph, candidate.dataset, candidate.recipe, SEED, initial_state(candidate.graph, SEED), 0
    )
    raw = bytearray(state.encode())
    raw[40] ^= 1
    for other in (bytes(raw), b"x", state.encode() + b"\0", initial_state(candidate.graph, SEED).encode()):
        for segment in range(1, spec.segments + 1):
            assert judge(folder, fact_of(spec, leaves, segment, store(folder, other))) == FALSE


def test_a_leaf_that_is_the_hash_of_no_state_is_a_fraud(folder: Path, spec: TaskSpec, candidate: Candidate) -> None:
    leaves, _ = honest(candidate)
    start = initial_state(candidate.graph, SEED)
    first = run_segment(candidate.graph, candidate.dataset, candidate.recipe, SEED, start, 0)
    too_large = dataclasses.replace(first, weights=first.weights + (1 << 23))
    elsewhere = dataclasses.replace(first, step=first.step + 1)
    for raw in (b"rubbish", first.encode()[:-1], too_large.encode(), elsewhere.encode()):
        forged = (leaves[0], hashlib.sha256(raw).digest(), *leaves[2:])
        assert judge(folder, fact_of(spec, forged, 1, store(folder, raw))) == TRUE


def test_leaf_0_is_checked_with_segment_0(folder: Path, spec: TaskSpec, candidate: Candidate) -> None:
    leaves, _ = honest(candidate)
    forged = (bytes(32), *leaves[1:])
    assert examine(folder, spec, forged)[:2] == (0, b"")
    assert judge(folder, fact_of(spec, forged, 0, (b"", 0))) == TRUE
