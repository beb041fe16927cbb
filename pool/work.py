"""What a pool or a solo miner works on, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from chain.hashing import digest
from consensus.datasets import HEADER, MAGIC, BadDataset
from consensus.types import BASELINE_UNIT, TaskSpec


@dataclass(frozen=True, slots=True)
class Work:
    """The search of one epoch.

    `seed` is the training seed (32 bytes), `closes` the Unix time in seconds at which commits close, and
    `validation_samples` the size of the dataset's validation split: it fixes the baseline that points count from.
    `id` names the search: results under another seed or task do not compare.
    """

    epoch: int
    task: bytes
    spec: TaskSpec
    seed: bytes
    closes: float
    validation_samples: int
    id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        epoch = self.epoch.to_bytes(8, "big")
        object.__setattr__(self, "id", digest("ponas/pool-work", epoch, self.task, self.spec.encode(), self.seed))

    @property
    def baseline_correct(self) -> int:
        """Correct predictions on the validation split that earn nothing yet, rounded up as the chain rounds."""
        return -(-self.spec.baseline * self.validation_samples // BASELINE_UNIT)

    def points(self, correct: int) -> int:
        """Points of a share: correct predictions above the baseline. Source: protocol section 9."""
        return max(0, correct - self.baseline_correct)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained architecture, as the competition needs it. `model` is an artifact id, `finder` a 20-byte address."""

    genotype: bytes
    leaves: tuple[bytes, ...]
    model: bytes
    model_bytes: int
    validation_correct: int
    validation_total: int
    finder: bytes


def validation_samples(dataset: bytes) -> int:
    """Size of the validation split, from the first bytes of an encoded dataset. Raises BadDataset."""
    if len(dataset) < HEADER.size:
        raise BadDataset("The data set is shorter than its header.")
    magic, _, _, _, _, _, _, validation, _, _ = HEADER.unpack_from(dataset)
    if magic != MAGIC:
        raise BadDataset("The header is not that of a data set of this version.")
    return int(validation)
