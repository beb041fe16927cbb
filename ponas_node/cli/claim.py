"""Somebody's claim of a training, from a node or from a folder of states: what was trained, and what came out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli.errors import UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.states import read_dataset, read_facts
from ponas_node.cli.taskfile import MOST_DATASET

if TYPE_CHECKING:
    from consensus.datasets import Dataset
    from consensus.spaces import Graph
    from consensus.types import TaskSpec
    from ponas_node.client import NodeClient


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed of a training, and all that it depends on. `name`: whose claim it is, for sentences."""

    name: str
    spec: TaskSpec
    genotype: bytes
    seed: bytes
    leaves: tuple[bytes, ...]
    dataset: bytes


async def fetch_claim(url: str, id: str) -> Claim:
    """Ask the node for the result, its task and its dataset. Raises ClientError, UserError."""
    from ponas_node.client import NodeClient

    async with NodeClient(url, timeout=300) as client:
        spec, result = await fetch_result(client, id)
        with complete_answer():
            claim = _claimed(f"result {id[:16]}", spec, result)
        print_facts({
            "result": id,
            "task": claim.spec.name,
            "epoch": result.get("epoch"),
            "owner": result.get("owner"),
            "architecture": result.get("architecture"),
            "claims": f"{result.get('correct')} of {result.get('total')} correct",
        })  # fmt: skip
        dataset = await client.artifact(claim.spec.dataset, min(claim.spec.dataset_bytes, MOST_DATASET))
    return replace(claim, dataset=dataset)


async def fetch_result(client: NodeClient, id: str) -> tuple[TaskSpec, dict[str, Any]]:
    """A result's task, and what the node says of the result, not checked. Raises ClientError, UserError."""
    result = await client.get(f"/v1/results/{id}")
    task = await client.get(f"/v1/tasks/{result.get('task')}")
    with complete_answer():
        return _task_spec(task["spec"]), result


@contextlib.contextmanager
def complete_answer() -> Iterator[None]:
    """Around the reading of a node's answer: what is missing or malformed in it becomes a UserError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("The node's answer lacks something: it may be of another version. Ask another node.") from error


def read_claim(folder: Path) -> Claim:
    """What a folder of states claims. Raises UserError."""
    facts = read_facts(folder)
    try:
        claim = _claimed(f"folder {folder}", _task_spec(facts["spec"]), facts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The training that {folder} tells of is incomplete or damaged: {error}. Get it again."
        ) from error
    spec = claim.spec
    print_facts({
        "folder": folder,
        "task": spec.name,
        "training": f"{spec.steps} steps of {spec.batch} samples in {spec.segments} segments",
        "genotype": claim.genotype.hex(),
        "seed": claim.seed.hex(),
    })  # fmt: skip
    return replace(claim, dataset=read_dataset(folder, spec.dataset))


def _claimed(name: str, spec: TaskSpec, facts: dict[str, Any]) -> Claim:
    """The claim in a node's answer or in a folder, without its dataset. Raises KeyError, TypeError or ValueError."""
    leaves = tuple(bytes.fromhex(leaf) for leaf in facts["leaves"])
    genotype, seed = bytes.fromhex(facts["genotype"]), bytes.fromhex(facts["seed"])
    if len(leaves) != spec.segments + 2 or {len(part) for part in (seed, *leaves)} != {32}:
        raise ValueError(f"{spec.segments} segments have a seed and {spec.segments + 2} leaves of 32 bytes each")
    return Claim(name, spec, genotype, seed, leaves, b"")


def _task_spec(raw: Any) -> TaskSpec:
    """The task of an answer. Raises KeyError, TypeError or ValueError."""
    from chain.errors import BadEncoding
    from consensus.types import TaskSpec

    try:
        return TaskSpec.decode(TaskSpec(**{**raw, "dataset": bytes.fromhex(raw["dataset"])}).encode())
    except (BadEncoding, OverflowError) as error:
        raise ValueError(str(error)) from error


def network_and_data(claim: Claim) -> tuple[Graph, Dataset]:
    """Network and data of a claim. Raises UserError."""
    from consensus.datasets import BadDataset, decode_dataset
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
    from consensus.tasks import input_shape

    shape = input_shape(claim.spec)
    try:
        data = decode_dataset(claim.dataset, len(claim.dataset))
        graph = get_space(claim.spec.space).decode(claim.genotype, shape)
    except (BadDataset, InvalidGenotype, UnknownSpace) as error:
        raise UserError(f"This training cannot be repeated here: {error}") from error
    if data.shape != shape:
        raise UserError("This training cannot be repeated here: its task and its dataset differ in shape.")
    return graph, data
