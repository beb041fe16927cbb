"""ponas replay: train somebody's result again, whole or one segment of it, and see whether they told the truth."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_rows
from ponas_node.cli.states import read_dataset, read_facts, read_state
from ponas_node.cli.train import add_device, exact_device, progress_bar, recipe_of

if TYPE_CHECKING:
    from consensus.datasets import Dataset
    from consensus.spaces import Graph
    from consensus.types import TaskSpec

_MOST_DATASET = 1 << 30
_ABOUT = """\
Repeat a training and compare its checkpoints with what its owner claimed. Training is exact, so one difference proves
that the claim is false. RESULT is the id of a result on the chain: it is trained again from the start. Where you hold
its states (--states), or RESULT is a folder that `ponas train --states` wrote, each segment runs from its own state, so
one segment costs no more than its share of the training.
Exit code 0: all equal; 1: a difference, or it could not be replayed.
"""
_EXAMPLES = """\
  ponas replay RESULT_ID
  ponas replay RESULT_ID --segment 0 --node http://127.0.0.1:8645
  ponas replay RESULT_ID --device auto
  ponas replay FOLDER --segment 3
  ponas replay RESULT_ID --segment 3 --states FOLDER
"""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What is claimed of a training, and all that it depends on. `name`: whose claim it is, for sentences."""

    name: str
    spec: TaskSpec
    genotype: bytes
    seed: bytes
    leaves: tuple[bytes, ...]
    dataset: bytes


def register(subparsers: options.Subparsers) -> None:
    """Add `replay`."""
    parser = options.add_command(subparsers, "replay", "check somebody's training by repeating it", _ABOUT, _EXAMPLES)
    add = parser.add_argument
    add("result", metavar="RESULT", help="id of a result, 64 hexadecimal digits, or a folder of states")
    add(
        "--segment", metavar="I|all", default="all",
        help="with states: run segment I only, counted from 0; without: stop after it (default: all, and the model)",
    )  # fmt: skip
    add("--states", type=Path, metavar="FOLDER", help="the result's states: 000.state, 001.state, ...")
    options.add_node(parser)
    add_device(parser)
    parser.set_defaults(run=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    name, states = arguments.result.strip(), arguments.states
    segment = None if arguments.segment == "all" else _number(arguments.segment)
    if len(name) == 64 and set(name.lower()) <= set("0123456789abcdef"):
        claim = asyncio.run(_fetch(arguments.node, name.lower()))
    elif states is None and Path(name).is_dir():
        states = Path(name)
        claim = _read(states)
    else:
        raise UserError(
            f"{name!r} is not the id of a result, which has 64 hexadecimal digits"
            + (", nor a folder of states." if states is None else "; a folder needs no --states."),
            USAGE,
        )
    count = claim.spec.segments
    if segment is not None and not 0 <= segment < count:
        raise UserError(f"--segment must be from 0 to {count - 1} for this training, or all.", USAGE)
    device = exact_device(arguments.device)
    if states is not None:
        return _check_segments(claim, states, range(count) if segment is None else [segment], device)
    return _check_from_start(claim, count - 1 if segment is None else segment, segment is None, device)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"--segment {text!r} must be a whole number, counted from 0, or all.", USAGE) from error


async def _fetch(url: str, id: str) -> _Claim:
    """Ask the node for the result, its task and its dataset. Raises ClientError, UserError."""
    from ponas_node.client import NodeClient

    async with NodeClient(url, timeout=300) as client:
        result = await client.get(f"/v1/results/{id}")
        task = await client.get(f"/v1/tasks/{result.get('task')}")
        try:
            claim = _claimed(f"result {id[:16]}", task["spec"], result)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "The node's answer lacks something: it may be of another version. Ask another node."
            ) from error
        print_facts({
            "result": id,
            "task": claim.spec.name,
            "epoch": result.get("epoch"),
            "owner": result.get("owner"),
            "architecture": result.get("architecture"),
            "claims": f"{result.get('correct')} of {result.get('total')} correct",
        })  # fmt: skip
        dataset = await client.artifact(claim.spec.dataset, min(claim.spec.dataset_bytes, _MOST_DATASET))
    return replace(claim, dataset=dataset)


def _read(folder: Path) -> _Claim:
    """What a folder of states claims. Raises UserError."""
    facts = read_facts(folder)
    try:
        claim = _claimed(f"folder {folder}", facts["spec"], facts)
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


def _claimed(name: str, spec: Any, facts: Any) -> _Claim:
    """The claim in a node's answer or in a folder, without its dataset. Raises KeyError, TypeError or ValueError."""
    task, leaves = task_spec(spec), tuple(bytes.fromhex(leaf) for leaf in facts["leaves"])
    genotype, seed = bytes.fromhex(facts["genotype"]), bytes.fromhex(facts["seed"])
    if len(leaves) != task.segments + 2 or {len(part) for part in (seed, *leaves)} != {32}:
        raise ValueError(f"{task.segments} segments have a seed and {task.segments + 2} leaves of 32 bytes each")
    return _Claim(name, task, genotype, seed, leaves, b"")


def task_spec(raw: Any) -> TaskSpec:
    """The task of an answer. Raises KeyError, TypeError or ValueError."""
    from chain.errors import BadEncoding
    from consensus.types import TaskSpec

    try:
        return TaskSpec.decode(TaskSpec(**{**raw, "dataset": bytes.fromhex(raw["dataset"])}).encode())
    except (BadEncoding, OverflowError) as error:
        raise ValueError(str(error)) from error


def _prepare(claim: _Claim) -> tuple[Graph, Dataset]:
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


def _check_segments(claim: _Claim, folder: Path, segments: Sequence[int], device: str) -> int:
    """Run each segment from its own state and compare what it ends in with the claim: the exit code."""
    graph, data = _prepare(claim)
    false = [text for index in segments for text in _check_segment(claim, graph, data, folder, index, device)]
    if false:
        print(f"NOT EQUAL: {false[0]}. What {claim.name} claims is false.")
        return 1
    shown = f"segment {segments[0]}" if len(segments) == 1 else f"all {len(segments)} segments"
    print(f"EQUAL: {shown} of {claim.name} leads from the claimed state to the claimed state.")
    return 0


def _check_segment(claim: _Claim, graph: Graph, data: Dataset, folder: Path, index: int, device: str) -> list[str]:
    """What is false about a segment, and about the initial state before the first and the model after the last."""
    from consensus import exact

    recipe, leaves, false = recipe_of(claim.spec), claim.leaves, []
    raw, first = read_state(folder, index, graph, leaves), index * recipe.segment_steps

    def compare(what: str, mine: bytes, leaf: int, took: str = "") -> None:
        equal = mine == leaves[leaf]
        print(f"{what}: {mine.hex()[:16]}, {'EQUAL' if equal else 'NOT EQUAL'} to leaf {leaf}{took}", flush=True)
        if not equal:
            false.append(f"{what}, is not leaf {leaf}")

    if index == 0:
        compare("initial state", exact.initial_state(graph, claim.seed).digest(), 0)
    started = time.monotonic()
    try:
        state = exact.decode_state(raw, graph)
        if state.step != first:
            raise exact.BadState(f"It is at step {state.step} instead of {first}.")
    except exact.BadState as error:
        return [*false, f"the bytes of leaf {index} are no state at the start of segment {index} ({error})"]
    with progress_bar(f"segment {index}", recipe.segment_steps) as step:
        end = exact.run_segment(graph, data, recipe, claim.seed, state, index, device, lambda done: step(done - first))
    took = f", in {time.monotonic() - started:.2f} s"
    compare(f"end of segment {index}, run from the state of leaf {index}", end.digest(), index + 1, took)
    if index == recipe.segments - 1 and not false:
        compare("model", exact.content_id(exact.quantise(end, graph).encode()), index + 2)
    return false


def _check_from_start(claim: _Claim, last: int, whole: bool, device: str) -> int:
    """Train up to segment `last` and compare every leaf, the model's id as well if `whole`: the exit code."""
    leaves = _train_again(claim, last, whole, device)
    rows = [(index, mine.hex(), claim.leaves[index] == mine) for index, mine in enumerate(leaves)]
    print_rows(("leaf", "trained here", "equal"), rows)
    differing = [index for index, _, equal in rows if not equal]
    if differing:
        print(f"NOT EQUAL: leaf {differing[0]} differs from what {claim.name} claims. The claim is false.")
        return 1
    print(f"EQUAL: all {len(rows)} leaves that were computed are those of {claim.name}.")
    return 0


def _train_again(claim: _Claim, last: int, whole: bool, device: str) -> list[bytes]:
    """The leaves up to that after segment `last`; the model's id as well where it is the `whole` training."""
    from consensus import exact

    graph, data = _prepare(claim)
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
