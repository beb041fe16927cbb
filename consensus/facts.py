"""Facts: statements about artifacts and proofs that validation needs and that cost real work to establish.

Validation itself is pure: it asks for a fact by key and, where it is not known, names the request. Whoever runs it
establishes the fact (in a worker that can be killed) and tries again. A fact never changes. Source: protocol C7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from chain.encoding import U32, U64, Hash, Range, Record, Size
from chain.errors import Missing
from chain.hashing import digest
from consensus.tasks import sealed_bytes
from consensus.types import MOST_SPLITS, EpochRecord, Genotype, MaybeHash, TaskSpec

FALSE, TRUE = 0, 1
INVALID_MODEL = -1


@dataclass(frozen=True, slots=True)
class ScoreFact(Record):
    """How many samples drawn by `beacon` the model predicts. Answer: the count, or INVALID_MODEL.

    They are drawn from the sealed test split `sealed`, which `key` opens; where both are empty, from the dataset's.
    """

    spec: TaskSpec
    genotype: Genotype
    model: Hash
    model_bytes: U32
    beacon: Hash
    sealed: MaybeHash
    key: MaybeHash


@dataclass(frozen=True, slots=True)
class DatasetFact(Record):
    """Whether the task's dataset decodes and has the stated shape and test split. Answer: TRUE or FALSE.

    Whoever answers holds the artifacts `sealed` too, the task's sealed test splits, which nobody can open yet.
    """

    spec: TaskSpec
    sealed: Annotated[tuple[Hash, ...], Size(0, MOST_SPLITS)]


@dataclass(frozen=True, slots=True)
class KeyFact(Record):
    """Whether `key` opens the artifact `sealed` to a test split that fits the task. Answer: TRUE or FALSE."""

    spec: TaskSpec
    sealed: Hash
    key: Hash


@dataclass(frozen=True, slots=True)
class BeaconFact(Record):
    """Whether `output` is the delay function's output over `challenge`. Answer: TRUE or FALSE."""

    challenge: Hash
    discriminant_bits: U32
    iterations: U64
    output: Annotated[bytes, Size(200, 200)]


@dataclass(frozen=True, slots=True)
class ChallengeFact(Record):
    """Whether a segment refutes the training that leads from leaf `before` to leaf `after`. Answer: TRUE or FALSE.

    TRUE: the initial state, for segment 0, is not that of `before`; or the artifact `state` hashes to `before`, but is
    no state at the start of the segment, or does not lead to `after`. FALSE: it leads there, or hashes to something
    else. Behind the last segment comes what folds the final state into the model.
    """

    spec: TaskSpec
    genotype: Genotype
    seed: Hash
    segment: Annotated[int, Range(0, 256)]
    before: Hash
    after: Hash
    state: MaybeHash
    state_bytes: U32


Fact = ScoreFact | DatasetFact | KeyFact | BeaconFact | ChallengeFact


def fact_key(fact: Fact) -> bytes:
    """32-byte key of a fact."""
    return digest("ponas/fact", type(fact).__name__.encode(), fact.encode())


def score_fact(spec: TaskSpec, epoch: EpochRecord, genotype: bytes, model: bytes, model_bytes: int) -> ScoreFact:
    """What the score of a model in an epoch with a beacon depends on."""
    sealed = epoch.sealed if epoch.key else b""
    return ScoreFact(spec, genotype, model, model_bytes, epoch.beacon, sealed, epoch.key)


def facts_of(missing: Missing) -> tuple[Fact, ...]:
    """What `ConsensusRules` asked for, who ask for nothing else; the chain passes it on without looking at it."""
    return cast(tuple[Fact, ...], missing.facts)


def artifacts_of(fact: Fact) -> tuple[tuple[bytes, int], ...]:
    """(artifact id, size in bytes) of everything needed to establish a fact."""
    if isinstance(fact, BeaconFact):
        return ()
    dataset = (fact.spec.dataset, fact.spec.dataset_bytes)
    if isinstance(fact, ChallengeFact):
        return (dataset, (fact.state, fact.state_bytes)) if fact.state else (dataset,)
    if isinstance(fact, DatasetFact):
        return (dataset, *((sealed, sealed_bytes(fact.spec)) for sealed in fact.sealed))
    split = ((fact.sealed, sealed_bytes(fact.spec)),) if fact.sealed else ()
    if isinstance(fact, KeyFact):
        return (dataset, *split)
    return (dataset, *split, (fact.model, fact.model_bytes))


class Facts(Protocol):
    """Known facts."""

    def get(self, key: bytes) -> int | None:
        """The answer to the fact of `key`, or None where it is not known."""
        ...


class NoFacts:
    """For a chain that judges no results, or executes no blocks."""

    def get(self, key: bytes) -> int | None:
        """Nothing is known."""
        return None
