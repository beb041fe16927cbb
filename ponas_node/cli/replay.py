"""ponas replay: train somebody's result again, whole or one segment of it, and see whether they told the truth."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.claim import Claim, fetch_claim, network_and_data, read_claim
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_rows
from ponas_node.cli.states import read_state
from ponas_node.cli.train import add_device, exact_device, progress_bar, recipe_of

if TYPE_CHECKING:
    from consensus.datasets import Dataset
    from consensus.spaces import Graph

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
    id = options.find_id(name)
    if id is not None:
        claim = asyncio.run(fetch_claim(arguments.node, id))
    elif states is None and Path(name).is_dir():
        states = Path(name)
        claim = read_claim(states)
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


def _check_segments(claim: Claim, folder: Path, segments: Sequence[int], device: str) -> int:
    """Run each segment from its own state and compare what it ends in with the claim: the exit code."""
    graph, data = network_and_data(claim)
    false = [text for index in segments for text in _check_segment(claim, graph, data, folder, index, device)]
    if false:
        print(f"NOT EQUAL: {false[0]}. What {claim.name} claims is false.")
        return 1
    shown = f"segment {segments[0]}" if len(segments) == 1 else f"all {len(segments)} segments"
    print(f"EQUAL: {shown} of {claim.name} leads from the claimed state to the claimed state.")
    return 0


def _check_segment(claim: Claim, graph: Graph, data: Dataset, folder: Path, index: int, device: str) -> list[str]:
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


def _check_from_start(claim: Claim, last: int, whole: bool, device: str) -> int:
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


def _train_again(claim: Claim, last: int, whole: bool, device: str) -> list[bytes]:
    """The leaves up to that after segment `last`; the model's id as well where it is the `whole` training."""
    from consensus import exact

    graph, data = network_and_data(claim)
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
