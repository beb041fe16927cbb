"""Jobs of a worker that train again what somebody claims to have trained: the first leaves, all of it, one segment.

Torch is imported here only inside the jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.facts import FALSE, TRUE, ChallengeFact
from consensus.types import TaskSpec
from ponas_node.job_inputs import dataset_of, device_of, graph_of, recipe_of

if TYPE_CHECKING:
    from consensus.exact import Candidate, State


def replay(
    spec_bytes: bytes, genotype: bytes, seed: bytes, leaves: int, artifacts: str, device: str
) -> Generator[None, None, list[bytes]]:
    """The first leaves of a training, a step a turn: no more of it is run than they need."""
    from consensus import exact

    candidate = _candidate(spec_bytes, genotype, seed, artifacts)
    found: list[bytes] = []
    run = exact.train_stepwise(candidate, device_of(device), on_state=lambda state: found.append(state.digest()))
    with contextlib.closing(run):
        while len(found) < leaves:
            try:
                next(run)
            except StopIteration as end:
                return list(end.value.leaves)[:leaves]
            yield
    return found[:leaves]


def audit(
    spec_bytes: bytes, genotype: bytes, seed: bytes, leaves: list[bytes], artifacts: str, device: str
) -> Generator[None, None, list[Any]]:
    """Like `audit_training`, for a worker."""
    candidate = _candidate(spec_bytes, genotype, seed, artifacts)
    run = audit_training(candidate, leaves, device_of(device))
    while True:
        try:
            next(run)
        except StopIteration as end:
            return list(end.value)
        yield


def audit_training(
    candidate: Candidate, leaves: Sequence[bytes], device: str
) -> Generator[int, None, tuple[int, bytes]]:
    """Train again up to the first leaf that differs from `leaves`; yields the steps done after each.

    Answers the segment that a challenge has to name, -1 where all leaves are true, and the bytes of the state before
    it, none for segment 0.
    """
    from consensus import exact

    found = _Comparison(leaves)
    with contextlib.closing(exact.train_stepwise(candidate, device, found.compare)) as run:
        while found.segment is None:
            try:
                yield next(run)
            except StopIteration as end:
                found.end(end.value.leaves[-1])
                break
    return -1 if found.segment is None else found.segment, found.before


class _Comparison:
    """Compares states with claimed leaves as they come. `segment`: the first false one, `before`: the state before."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves
        self._last: State | None = None
        self._count = 0
        self.segment: int | None = None
        self.before = b""

    def compare(self, state: State) -> None:
        """The state of the next leaf."""
        if self.segment is not None:
            return
        if state.digest() != self._leaves[self._count]:
            self._fail()
        self._last = state
        self._count += 1

    def end(self, model: bytes) -> None:
        """The id of the model, the last leaf."""
        if self.segment is None and model != self._leaves[self._count]:
            self._fail()

    def _fail(self) -> None:
        self.segment = max(0, self._count - 1)
        if self.segment and self._last is not None:
            self.before = self._last.encode()


def challenge(fact_bytes: bytes, artifacts: str, device: str) -> int:
    """Establish a ChallengeFact: replay one segment."""
    from consensus import exact

    fact = ChallengeFact.decode(fact_bytes)
    graph, recipe = graph_of(fact.spec.encode(), fact.genotype), recipe_of(fact.spec)
    if fact.segment == 0:
        state = exact.initial_state(graph, fact.seed)
        if state.digest() != fact.before:
            return TRUE
    else:
        raw = (Path(artifacts) / fact.state.hex()).read_bytes()
        if hashlib.sha256(raw).digest() != fact.before:
            return FALSE
        try:
            state = exact.decode_state(raw, graph)
        except exact.BadState:
            return TRUE
        if state.step != fact.segment * recipe.segment_steps:
            return TRUE
    if fact.segment == recipe.segments:
        after = exact.content_id(exact.quantise(state, graph).encode())
    else:
        data = dataset_of(artifacts, fact.spec.dataset, fact.spec.dataset_bytes)
        device = device_of(device)
        after = exact.run_segment(graph, data, recipe, fact.seed, state, fact.segment, device).digest()
    return FALSE if after == fact.after else TRUE


def _candidate(spec_bytes: bytes, genotype: bytes, seed: bytes, artifacts: str) -> Candidate:
    from consensus import exact

    spec = TaskSpec.decode(spec_bytes)
    data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    return exact.Candidate(graph_of(spec_bytes, genotype), data, recipe_of(spec), seed)
