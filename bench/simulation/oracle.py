"""Training, evaluation and the delay function, replaced by a table of exact scores and by hashes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bench.table import TRAINED, TRAINED_MACS, TRAINED_SHAPE, read, table_spec
from chain.hashing import digest
from consensus.facts import INVALID_MODEL, TRUE, BeaconFact, ChallengeFact, DatasetFact, Fact, ScoreFact, fact_key
from consensus.types import EpochRecord, ResultRecord, TaskSpec

SPLIT = 991  # test samples behind the scores of the table
EVALUATED = 256  # of them a beacon draws
FORGED = 985  # samples of the split that a model predicts whose maker has seen them all
SEGMENTS = 8
MODEL_BYTES = 20_000


@cache
def scores() -> dict[bytes, int]:
    """How many samples of the test split the exact model of each architecture of the table predicts."""
    table = read(TRAINED, "nb201-v1")
    return {genotype: round(score * SPLIT / 100) for genotype, score in sorted(table.items())}


def task_spec() -> TaskSpec:
    """The task whose results the table knows."""
    return dataclasses.replace(
        table_spec("nb201-v1", TRAINED_SHAPE, TRAINED_MACS), test_samples=SPLIT, eval_samples=EVALUATED,
        max_parameters=1 << 20, steps=96, batch=32, segments=SEGMENTS, learning_rate=640, baseline=8500,
        bounty_per_epoch=0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model: its architecture, and as a bit mask the samples of the test split that it predicts."""

    genotype: bytes
    right: int

    @property
    def correct(self) -> int:
        """Samples of the whole test split that it predicts."""
        return self.right.bit_count()


class Oracle:
    """Trains by looking up, and answers facts. Serves as the rules' `Facts`."""

    def __init__(self) -> None:
        self._answers: dict[bytes, int] = {}
        self._models: dict[bytes, Model] = {}

    def get(self, key: bytes) -> int | None:
        """The answer to the fact of `key`, or None where nobody established it."""
        return self._answers.get(key)

    def establish(self, facts: Iterable[Fact]) -> None:
        """Find the answers to facts."""
        for fact in facts:
            self._answers[fact_key(fact)] = self._answer(fact)

    def train(self, genotype: bytes, seed: bytes) -> tuple[bytes, ...]:
        """Leaves of a training. As with the real one, the miner's identity is no input."""
        leaves = training_leaves(genotype, seed)
        self._make(genotype, leaves[-1], scores()[genotype])
        return leaves

    def forge(self, genotype: bytes, seed: bytes, forger: bytes) -> tuple[bytes, ...]:
        """Leaves of a training that never was, and that has a better model than any: true up to some place."""
        true = training_leaves(genotype, seed)
        false = tuple(digest("simulated-forgery", forger, leaf) for leaf in true)
        first = false[-1][0] % len(true)
        leaves = true[:first] + false[first:]
        self._make(genotype, leaves[-1], FORGED)
        return leaves

    def _make(self, genotype: bytes, id: bytes, correct: int) -> None:
        if id not in self._models:
            wrong = random.Random(id).sample(range(SPLIT), SPLIT - correct)
            self._models[id] = Model(genotype, (1 << SPLIT) - 1 - sum(1 << place for place in wrong))

    def model(self, leaves: tuple[bytes, ...]) -> Model:
        """The model that a training gave."""
        return self._models[leaves[-1]]

    def score(self, model: bytes, genotype: bytes, beacon: bytes) -> int:
        """Samples drawn by `beacon` that the model predicts; INVALID_MODEL where nobody trained it."""
        found = self._models.get(model)
        if found is None or found.genotype != genotype:
            return INVALID_MODEL
        return (found.right & _drawn(beacon)).bit_count()

    def has_score(self, result: ResultRecord, epoch: EpochRecord) -> bool:
        """Whether a result's model predicts what the result claims."""
        return self.score(result.model, result.genotype, epoch.beacon) == result.correct

    def _answer(self, fact: Fact) -> int:
        if isinstance(fact, ScoreFact):
            return self.score(fact.model, fact.genotype, fact.beacon)
        if isinstance(fact, BeaconFact):
            return int(fact.output == delay_output(fact.challenge))
        if isinstance(fact, DatasetFact):
            return TRUE
        if isinstance(fact, ChallengeFact):
            return int(_refutes(fact))
        raise TypeError(f"the simulator has no answer to {type(fact).__name__}")


def training_leaves(genotype: bytes, seed: bytes) -> tuple[bytes, ...]:
    """Checkpoint hashes of training `genotype` with `seed`."""
    return tuple(digest("simulated-leaf", genotype, seed, bytes([place])) for place in range(SEGMENTS + 2))


def state_behind(leaf: bytes) -> bytes:
    """Id of the artifact whose hash a leaf is."""
    return digest("simulated-state", leaf)


def _refutes(fact: ChallengeFact) -> bool:
    """Whether a segment is false. What hashes to a false leaf is no state: nobody takes the trouble to make one."""
    true = training_leaves(fact.genotype, fact.seed)
    if fact.segment and fact.state != state_behind(fact.before):
        return False
    return (fact.before, fact.after) != true[fact.segment : fact.segment + 2]


def delay_output(challenge: bytes) -> bytes:
    """200 bytes in the place of the delay function's output."""
    return b"".join(digest("simulated-delay", challenge, bytes([part])) for part in range(7))[:200]


@cache
def _drawn(beacon: bytes) -> int:
    return sum(1 << place for place in random.Random(beacon).sample(range(SPLIT), EVALUATED))
