"""ponas train: train one architecture exactly, by hand."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.states import StateWriter, check_empty

if TYPE_CHECKING:
    from consensus.exact import Recipe
    from consensus.spaces import Graph
    from consensus.types import TaskSpec

_ABOUT = """\
Train one architecture. The result is exact: the same task, genotype and seed give the same numbers, bit for bit, on any
machine, CPU or GPU. `leaves` are the hashes of the training's checkpoints; the last one is the id of the trained model.
"""
_EXAMPLES = """\
  ponas train --task digits --genotype random
  ponas train --task digits --genotype 0000010002000000000000000000000000 --seed 00ff --device auto
  ponas train --task mytask.json --genotype random --save model.bin
  ponas train --task digits --genotype random --states run1      then: ponas replay run1 --segment 3
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `train`."""
    parser = options.add_command(subparsers, "train", "train one architecture exactly", _ABOUT, _EXAMPLES)
    add = parser.add_argument
    add("--task", default="digits", metavar="NAME|FILE", help='"digits", or a task file (default: %(default)s)')
    add(
        "--genotype", required=True, metavar="HEX|random", help="the architecture, two digits per gene; or a random one"
    )
    add("--seed", default="", metavar="HEX", help="seed of the training, up to 64 digits (default: all zero)")
    add("--steps", type=int, metavar="N", help="train N steps instead of the task's; a multiple of its segments")
    add_device(parser)
    add("--save", type=Path, metavar="FILE", help="write the trained model to a file that does not exist yet")
    add(
        "--states",
        type=Path,
        metavar="FOLDER",
        help="write every checkpoint's state to a new folder, for `ponas replay`",
    )
    parser.set_defaults(run=_train)


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device"""
    parser.add_argument(
        "--device", default="cpu", metavar="NAME",
        help="auto, cpu, cuda or cuda:N; it must pass the self-test of exactness (default: %(default)s)",
    )  # fmt: skip


def _train(arguments: argparse.Namespace) -> int:
    from ponas_node.cli.taskfile import load_task

    task = load_task(arguments.task)
    if task.dataset is None:
        raise UserError("To train, the task file must name its dataset by a path, not by its id.", USAGE)
    seed = _seed(arguments.seed)
    _check_free(arguments.save)
    folder: Path | None = arguments.states
    if folder is not None:
        check_empty(folder)

    from consensus import exact
    from consensus.datasets import decode_dataset
    from consensus.exact.state import state_bytes

    recipe = recipe_of(task.spec, arguments.steps)
    spec = dataclasses.replace(task.spec, steps=recipe.steps)
    genotype, graph = _architecture(spec, arguments.genotype)
    device = exact_device(arguments.device)
    data = decode_dataset(task.dataset, len(task.dataset))
    states = StateWriter(folder, graph, recipe, task.dataset) if folder is not None else None
    started = time.monotonic()
    with progress_bar("training", recipe.steps) as step:
        done = exact.train(graph, data, recipe, seed, device, on_step=step, on_state=states.add if states else None)
    seconds = time.monotonic() - started
    model = exact.decode_model(done.model, graph)
    tested = exact.evaluate(graph, model, data.test.samples, data.test.labels, device)
    print_facts({
        "validation": _share(done.validation_correct, done.validation_total),
        "test": _share(tested, len(data.test)),
        "seconds": f"{seconds:.1f} on {device}",
        **{f"leaf {index}": leaf.hex() for index, leaf in enumerate(done.leaves[:-1])},
        "model": f"{done.leaves[-1].hex()} ({len(done.model)} bytes)",
    })  # fmt: skip
    if arguments.save is not None:
        with arguments.save.open("xb") as file:
            file.write(done.model)
        print_facts({"saved to": arguments.save})
    if states is not None:
        states.finish(spec, genotype, seed, done)
        print_facts({"states in": f"{folder} ({states.count} states of {state_bytes(graph):,} bytes)"})
    return 0


def _check_free(path: Path | None) -> None:
    """Raise UserError where the model could not be written to `path`: better now than after the training."""
    if path is not None and path.exists():
        raise UserError(f"{path} exists already and was left as it is: choose another name with --save.")
    if path is not None and not os.access(path.parent, os.W_OK):
        raise UserError(f"There is no folder {path.parent} that can be written to: choose another with --save.")


def _architecture(spec: TaskSpec, text: str) -> tuple[bytes, Graph]:
    """The canonical genotype and its network; prints what it is. Raises UserError, Refuted."""
    from consensus.reveal import check_genotype
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
    from consensus.tasks import input_shape

    try:
        space = get_space(spec.space)
        shape = input_shape(spec)
        genotype = random_genotype(spec) if text == "random" else space.canonical(space.parse(text))
        graph = space.decode(genotype, shape)
        _, cost = check_genotype(spec, genotype)
        print_facts({
            "genotype": genotype.hex(),
            "architecture": space.text(genotype),
            "parameters": cost.parameters,
            "MACs": cost.macs,
        })  # fmt: skip
    except (UnknownSpace, InvalidGenotype) as error:
        raise UserError(f"{error} Try --genotype random.", USAGE) from error
    return genotype, graph


def random_genotype(spec: TaskSpec) -> bytes:
    """A random genotype that fits the task."""
    from chain.errors import Refuted
    from consensus.reveal import check_genotype
    from consensus.spaces import get_space

    rng = random.SystemRandom()
    for _ in range(1000):
        genotype = get_space(spec.space).sample(rng)
        try:
            check_genotype(spec, genotype)
        except Refuted:
            continue
        return genotype
    raise UserError("A thousand random architectures broke the task's limits: raise max_parameters and max_macs.")


def _seed(text: str) -> bytes:
    try:
        seed = bytes.fromhex(text)
    except ValueError as error:
        raise UserError(f"--seed {text!r} must be hexadecimal digits, two for each byte.", USAGE) from error
    if len(seed) > 32:
        raise UserError("--seed has at most 64 hexadecimal digits.", USAGE)
    return seed.rjust(32, b"\0")


def recipe_of(spec: TaskSpec, steps: int | None = None) -> Recipe:
    """The recipe of a task. Raises UserError."""
    from consensus.exact import Recipe

    try:
        return Recipe(spec.steps if steps is None else steps, spec.batch, spec.segments, spec.learning_rate)
    except ValueError as error:
        raise UserError(str(error), USAGE) from error


def exact_device(name: str) -> str:
    """A device that passed the self-test. Raises UserError.

    Torch gets one thread: more of them spin, and where others share the cores that costs far more than it gains.
    """
    import torch

    from consensus.exact.device import InexactDevice, pick_device

    torch.set_num_threads(1)
    try:
        return pick_device(name)
    except (InexactDevice, ValueError) as error:
        raise UserError(f"{error} Try --device cpu.") from error


@contextlib.contextmanager
def progress_bar(label: str, steps: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; gives the function that is told how many steps are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=steps)
        yield lambda done: progress.update(task, completed=done)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} correct ({part / whole:.2%})"
