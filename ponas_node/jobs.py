"""The jobs that a worker process runs. Arguments and answers are MessagePack values; torch is imported here only.

A job that is a generator takes turns with others of its kind; what it yields is progress, or None.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.facts import FALSE, INVALID_MODEL, TRUE, BeaconFact, DatasetFact, KeyFact, ScoreFact
from consensus.types import TaskSpec
from ponas_node.job_inputs import dataset_of, device_of, graph_of, judging_dataset, recipe_of
from ponas_node.replays import audit, challenge, replay

if TYPE_CHECKING:
    from consensus.datasets import Dataset
    from consensus.exact import State

REPORT_SECONDS = 5.0
"""A training says at least so often how far it is, however long its steps take: silence means that it is dead."""


def train(
    spec_bytes: bytes,
    genotype: bytes,
    seed: bytes,
    artifacts: str,
    device: str,
    start: tuple[list[bytes], bytes] | None = None,
    keep_seconds: float | None = None,
) -> Generator[Any, None, dict[str, Any]]:
    """Train one architecture, a step a turn; answers leaves, model bytes and validation score.

    Progress: steps done; and with `keep_seconds`, at the end of a segment after so long, the leaves so far with the
    bytes of the state of the last one. `start` is such a pair to go on from. Raises ValueError where that is none.
    """
    spec = TaskSpec.decode(spec_bytes)
    data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    return train_on(spec, genotype, seed, data, device, start, keep_seconds)


def train_on(
    spec: TaskSpec,
    genotype: bytes,
    seed: bytes,
    data: Dataset,
    device: str,
    start: tuple[list[bytes], bytes] | None = None,
    keep_seconds: float | None = None,
) -> Generator[Any, None, dict[str, Any]]:
    """Like `train`, with the dataset at hand."""
    from consensus import exact

    every, told = max(1, spec.steps // 20), time.monotonic()
    candidate = exact.Candidate(graph_of(spec.encode(), genotype), data, recipe_of(spec), seed)
    leaves, encoded = start or ([], b"")
    begin = exact.Checkpoint(tuple(leaves), exact.decode_state(encoded, candidate.graph)) if start else None
    keeper = None if keep_seconds is None else _Keeper(leaves, keep_seconds)
    on_state = None if keeper is None else keeper.take
    with contextlib.closing(exact.train_stepwise(candidate, device_of(device), on_state, begin)) as run:
        while True:
            try:
                step = next(run)
            except StopIteration as end:
                done = end.value
                break
            due = step % every == 0 or time.monotonic() > told + REPORT_SECONDS
            told = time.monotonic() if due else told
            yield step if due else None
            checkpoint = keeper.due() if keeper is not None else None
            if checkpoint is not None:
                yield checkpoint
    return {
        "leaves": list(done.leaves),
        "model": done.model,
        "correct": done.validation_correct,
        "total": done.validation_total,
    }


class _Keeper:
    """Keeps what a training needs to go on from the end of its last segment, and gives it out every `seconds`."""

    def __init__(self, leaves: list[bytes], seconds: float) -> None:
        self._leaves, self._seconds = list(leaves), seconds
        self._state: State | None = None
        self._given = time.monotonic()

    def take(self, state: State) -> None:
        """The state of the next leaf."""
        self._leaves.append(state.digest())
        self._state = state if state.step else None  # anybody has the one before the first step

    def due(self) -> list[Any] | None:
        """The leaves so far and the bytes of the last one's state, where they are new and it is time."""
        if self._state is None or time.monotonic() < self._given + self._seconds:
            return None
        found, self._state, self._given = [list(self._leaves), self._state.encode()], None, time.monotonic()
        return found


def validate(spec_bytes: bytes, models: list[tuple[bytes, bytes]], artifacts: str, device: str) -> list[int]:
    """How many validation samples each of the uploaded models, with its genotype, predicts, or INVALID_MODEL."""
    from consensus import exact
    from consensus.exact.model import BadModel

    spec = TaskSpec.decode(spec_bytes)
    data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    answers = []
    for genotype, model in models:
        graph = graph_of(spec_bytes, genotype)
        try:
            decoded = exact.decode_model(model, graph)
        except BadModel:
            answers.append(INVALID_MODEL)
        else:
            split = data.validation
            answers.append(exact.evaluate(graph, decoded, split.samples, split.labels, device_of(device)))
    return answers


def score(fact_bytes: bytes, artifacts: str, device: str) -> int:
    """Establish a ScoreFact from artifacts on disk."""
    from consensus import exact
    from consensus.exact.model import BadModel

    fact = ScoreFact.decode(fact_bytes)
    spec = fact.spec
    graph = graph_of(spec.encode(), fact.genotype)
    test = judging_dataset(artifacts, spec, fact.sealed, fact.key).test
    try:
        model = exact.decode_model((Path(artifacts) / fact.model.hex()).read_bytes(), graph)
    except BadModel:
        return INVALID_MODEL
    picked = exact.draw_samples(fact.beacon, len(test), spec.eval_samples)
    return exact.evaluate(graph, model, test.samples[picked], test.labels[picked], device_of(device))


def check_dataset(fact_bytes: bytes, artifacts: str) -> int:
    """Establish a DatasetFact from the artifact on disk."""
    from consensus.datasets import BadDataset
    from consensus.tasks import input_shape

    spec = DatasetFact.decode(fact_bytes).spec
    try:
        data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    except BadDataset:
        return FALSE
    fits = data.shape == input_shape(spec) and len(data.test.labels) == spec.test_samples
    return TRUE if fits else FALSE


def check_key(fact_bytes: bytes, artifacts: str) -> int:
    """Establish a KeyFact from the artifacts on disk."""
    from consensus.datasets import BadDataset

    fact = KeyFact.decode(fact_bytes)
    try:
        judging_dataset(artifacts, fact.spec, fact.sealed, fact.key)
    except BadDataset:
        return FALSE
    return TRUE


def supernet(spec_bytes: bytes, seed: bytes, artifacts: str) -> Generator[int, None, list[bytes]]:
    """Genotypes that a supernet of the task ranks best, best first. Progress: steps done. Raises ValueError."""
    from ponas_node.supernet.search import admitted, search, usual_budget

    spec = TaskSpec.decode(spec_bytes)
    data = dataset_of(artifacts, spec.dataset, spec.dataset_bytes)
    ranking = yield from search(data, admitted(spec), int.from_bytes(seed[:8], "big"), usual_budget(spec))
    return [ranked.cell for ranked in ranking]


def warm_up(device: str) -> str:
    """Load torch and test the device; answers the device that will be used."""
    return device_of(device)


def examine(device: str) -> tuple[str, int]:
    """The device that will be used, after its self-test, and its free memory in bytes; 0 for a CPU."""
    import torch

    name = device_of(device)
    return name, 0 if name.startswith("cpu") else int(torch.cuda.mem_get_info(name)[0])


def check_beacon(fact_bytes: bytes) -> int:
    """Establish a BeaconFact."""
    from consensus import vdf

    fact = BeaconFact.decode(fact_bytes)
    return TRUE if vdf.verify(fact.challenge, fact.discriminant_bits, fact.iterations, fact.output) else FALSE


def prove_beacon(challenge: bytes, discriminant_bits: int, iterations: int) -> bytes:
    """Compute the delay function over `challenge`."""
    from consensus import vdf

    return vdf.prove(challenge, discriminant_bits, iterations)


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job
    for job in (
        train,
        replay,
        audit,
        challenge,
        validate,
        score,
        supernet,
        warm_up,
        examine,
        check_dataset,
        check_key,
        check_beacon,
        prove_beacon,
    )
}
