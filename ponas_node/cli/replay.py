"""ponas replay: train somebody's result again and see whether they told the truth."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_rows
from ponas_node.cli.train import add_device, exact_device, progress_bar, recipe_of

if TYPE_CHECKING:
    from consensus.types import TaskSpec

_MOST_DATASET = 1 << 30
_ABOUT = """\
Train a revealed result again and compare every checkpoint with what its owner claimed. Training is exact, so one
difference proves that the claim is false. Exit code 0: all equal; 1: a difference, or it could not be replayed.
"""
_EXAMPLES = """\
  ponas replay RESULT_ID
  ponas replay RESULT_ID --segment 0 --node http://127.0.0.1:8645
  ponas replay RESULT_ID --device auto
"""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a result claims, and all that its training depends on."""

    spec: TaskSpec
    genotype: bytes
    seed: bytes
    leaves: tuple[bytes, ...]
    dataset: bytes


def register(subparsers: options.Subparsers) -> None:
    """Add `replay`."""
    parser = options.add_command(subparsers, "replay", "check somebody's training by repeating it", _ABOUT, _EXAMPLES)
    parser.add_argument("result", metavar="RESULT_ID", help="id of the result, 64 hexadecimal digits")
    parser.add_argument(
        "--segment", type=int, metavar="I", help="stop after segment I, counted from 0 (default: all, and the model)"
    )
    options.add_node(parser)
    add_device(parser)
    parser.set_defaults(run=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    id: str = arguments.result.strip().lower()
    if len(id) != 64 or not set(id) <= set("0123456789abcdef"):
        raise UserError(f"{id!r} is not the id of a result: it has 64 hexadecimal digits.", USAGE)
    claim = asyncio.run(_fetch(arguments.node, id))
    segments = claim.spec.segments
    last = segments - 1 if arguments.segment is None else arguments.segment
    if not 0 <= last < segments:
        raise UserError(f"--segment must be from 0 to {segments - 1} for this result.", USAGE)
    leaves = _train_again(claim, last, whole=arguments.segment is None, device=exact_device(arguments.device))
    rows = [
        (index, mine.hex(), theirs == mine)
        for index, (mine, theirs) in enumerate(zip(leaves, claim.leaves, strict=False))
    ]
    print_rows(("leaf", "trained here", "equal"), rows)
    differing = [index for index, _, equal in rows if not equal]
    if differing:
        print(f"NOT EQUAL: leaf {differing[0]} differs from what result {id[:16]} claims. The claim is false.")
        return 1
    print(f"EQUAL: all {len(rows)} leaves that were computed are those of result {id[:16]}.")
    return 0


async def _fetch(url: str, id: str) -> _Claim:
    """Ask the node for the result, its task and its dataset. Raises ClientError, UserError."""
    from ponas_node.client import NodeClient

    async with NodeClient(url, timeout=300) as client:
        result = await client.get(f"/v1/results/{id}")
        task = await client.get(f"/v1/tasks/{result.get('task')}")
        try:
            spec = task_spec(task["spec"])
            leaves = tuple(bytes.fromhex(leaf) for leaf in result["leaves"])
            genotype, seed = bytes.fromhex(result["genotype"]), bytes.fromhex(result["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "The node's answer lacks something: it may be of another version. Ask another node."
            ) from error
        print_facts({
            "result": id,
            "task": spec.name,
            "epoch": result.get("epoch"),
            "owner": result.get("owner"),
            "architecture": result.get("architecture"),
            "claims": f"{result.get('correct')} of {result.get('total')} correct",
        })  # fmt: skip
        dataset = await client.artifact(spec.dataset, min(spec.dataset_bytes, _MOST_DATASET))
    return _Claim(spec, genotype, seed, leaves, dataset)


def task_spec(raw: Any) -> TaskSpec:
    """The task of an answer. Raises KeyError, TypeError or ValueError."""
    from chain.errors import BadEncoding
    from consensus.types import TaskSpec

    try:
        return TaskSpec.decode(TaskSpec(**{**raw, "dataset": bytes.fromhex(raw["dataset"])}).encode())
    except BadEncoding as error:
        raise ValueError(str(error)) from error


def _train_again(claim: _Claim, last: int, whole: bool, device: str) -> list[bytes]:
    """The leaves up to that after segment `last`; the model's id as well where it is the `whole` training."""
    from consensus import exact
    from consensus.datasets import BadDataset, decode_dataset
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
    from consensus.tasks import input_shape

    try:
        data = decode_dataset(claim.dataset, len(claim.dataset))
        graph = get_space(claim.spec.space).decode(claim.genotype, input_shape(claim.spec))
    except (BadDataset, InvalidGenotype, UnknownSpace) as error:
        raise UserError(f"This result cannot be trained here: {error}") from error
    recipe = recipe_of(claim.spec)
    state = exact.initial_state(graph, claim.seed)
    leaves = [state.digest()]
    with progress_bar("replaying", (last + 1) * recipe.segment_steps) as step:
        for index in range(last + 1):
            state = exact.run_segment(graph, data, recipe, claim.seed, state, index, device, on_step=step)
            leaves.append(state.digest())
    if whole:
        leaves.append(exact.content_id(exact.quantise(state, graph).encode()))
    return leaves
