"""Checks of a task that need neither state nor data. Source: protocol C4."""

from __future__ import annotations

from chain.errors import BadTransaction
from consensus.parameters import ConsensusParameters
from consensus.spaces import SPACES
from consensus.spaces.base import InputShape
from consensus.types import SealedSplits, TaskSpec

SEAL_BYTES = 16  # of authentication, at the end of an encrypted split
_STEP_MACS = 10_000_000  # what a training step costs beside its products, in products of the same time


def segment_macs(spec: TaskSpec) -> int:
    """What the replay of one segment of the task costs at most, in multiply-accumulates.

    A step takes each product three times (forward, back to the inputs, to the weights), and a fixed part.
    """
    return spec.steps // spec.segments * (3 * spec.batch * spec.max_macs + _STEP_MACS)


def state_bytes_bound(parameters: int) -> int:
    """Bytes that no training state of a network with so many parameters exceeds: two numbers for each parameter, and
    two for each channel, of which there are no more than parameters, of 4 bytes each, and a header."""
    return 16 * (parameters + 1)


def sealed_bytes(spec: TaskSpec) -> int:
    """Size of a sealed test split of the task: its samples and labels, and what authenticates them."""
    return spec.test_samples * (spec.height * spec.width * spec.channels + 2) + SEAL_BYTES


def input_shape(spec: TaskSpec) -> InputShape:
    """Shape of the task's samples."""
    return InputShape(spec.height, spec.width, spec.channels, spec.classes)


def check_splits(spec: TaskSpec, splits: SealedSplits, parameters: ConsensusParameters) -> None:
    """Raise BadTransaction where sealed test splits could not judge the task."""
    if not splits:
        return
    if sealed_bytes(spec) > parameters.max_dataset_bytes:
        raise BadTransaction(f"a sealed split has at most {parameters.max_dataset_bytes} bytes", "dataset_too_large")
    for names in ({split.artifact for split in splits}, {split.key_hash for split in splits}):
        if len(names) != len(splits):
            raise BadTransaction("each sealed split needs data and a key of its own", "splits_repeat")


def check_spec(spec: TaskSpec, parameters: ConsensusParameters) -> None:
    """Raise BadTransaction where a task could not be run on this network."""
    if spec.space not in SPACES:
        raise BadTransaction(
            f"unknown search space {spec.space!r}; known: {', '.join(sorted(SPACES))}", "unknown_space"
        )
    if spec.steps % spec.segments:
        raise BadTransaction("steps must be a multiple of segments", "bad_recipe")
    if segment_macs(spec) > parameters.max_segment_macs:
        raise BadTransaction(
            f"one segment may take {segment_macs(spec)} multiply-accumulates, at most {parameters.max_segment_macs} "
            "can be replayed: take more segments, or a smaller batch or max_macs",
            "segment_too_long",
        )
    if state_bytes_bound(spec.max_parameters) > parameters.max_state_bytes:
        raise BadTransaction(
            f"a state of {spec.max_parameters} parameters may have more than {parameters.max_state_bytes} bytes",
            "state_too_large",
        )
    if spec.dataset_bytes > parameters.max_dataset_bytes:
        raise BadTransaction(f"a dataset has at most {parameters.max_dataset_bytes} bytes", "dataset_too_large")
    if not spec.eval_samples or not spec.max_macs or not spec.max_parameters:
        raise BadTransaction("eval_samples, max_macs and max_parameters must be at least 1", "bad_task")
