"""Checks of a task that need neither state nor data. Source: protocol C4."""

from __future__ import annotations

from chain.errors import BadTransaction
from consensus.parameters import ConsensusParameters
from consensus.spaces import SPACES
from consensus.spaces.base import InputShape
from consensus.types import TaskSpec


def input_shape(spec: TaskSpec) -> InputShape:
    """Shape of the task's samples."""
    return InputShape(spec.height, spec.width, spec.channels, spec.classes)


def check_spec(spec: TaskSpec, parameters: ConsensusParameters) -> None:
    """Raise BadTransaction where a task could not be run on this network."""
    if spec.space not in SPACES:
        raise BadTransaction(
            f"unknown search space {spec.space!r}; known: {', '.join(sorted(SPACES))}", "unknown_space"
        )
    if spec.steps % spec.segments:
        raise BadTransaction("steps must be a multiple of segments", "bad_recipe")
    if spec.dataset_bytes > parameters.max_dataset_bytes:
        raise BadTransaction(f"a dataset has at most {parameters.max_dataset_bytes} bytes", "dataset_too_large")
    if not spec.eval_samples or not spec.max_macs or not spec.max_parameters:
        raise BadTransaction("eval_samples, max_macs and max_parameters must be at least 1", "bad_task")
