"""ponas picture: draw a network."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.claim import complete_answer, fetch_result
from ponas_node.cli.errors import FAILURE, USAGE, UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.taskfile import load_task
from ponas_node.cli.train import random_genotype

if TYPE_CHECKING:
    from consensus.types import TaskSpec

_ABOUT = """\
Draw a network as SVG, which every browser shows: each operation, the shape of what comes out of it, and what it reads.
RESULT is the id of a result, whose architecture a node tells; without it, --genotype says what to draw, on the samples
of --task. The drawing is made here: nothing of it is taken from the node but the genotype and the task.
"""
_EXAMPLES = """\
  ponas picture RESULT_ID --out best.svg
  ponas picture --task digits --genotype random --out network.svg
  ponas picture --task mytask.json --genotype 000000000000000000000000000000 --out network.svg
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `picture`."""
    parser = options.add_command(subparsers, "picture", "draw a network", _ABOUT, _EXAMPLES)
    add = parser.add_argument
    add("result", nargs="?", metavar="RESULT", help="id of a result, 64 hexadecimal digits")
    add("--task", metavar="NAME|FILE", help="task of --genotype, as for `ponas train` (default: digits)")
    add("--genotype", metavar="HEX|random", help="the architecture, two digits per gene; or a random one")
    options.add_out(parser)
    options.add_node(parser)
    parser.set_defaults(run=_picture)


def _picture(arguments: argparse.Namespace) -> int:
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space, picture
    from consensus.tasks import input_shape

    id, task, text = arguments.result, arguments.task, arguments.genotype
    if (id is None) == (text is None) or (id is not None and task is not None):
        raise UserError("Name either the id of a RESULT, or a --genotype, which may have a --task.", USAGE)
    out = options.out_path(arguments)
    if id is None:
        spec = load_task(task or "digits").spec
    else:
        spec, text = _of_result(arguments.node, id)
    try:
        space = get_space(spec.space)
        genotype = space.canonical(random_genotype(spec) if text == "random" else space.parse(text))
        graph = space.decode(genotype, input_shape(spec))
    except (InvalidGenotype, UnknownSpace) as error:
        remedy, code = ("Try --genotype random.", USAGE) if id is None else ("Ask another node.", FAILURE)
        raise UserError(f"This network cannot be drawn: {error} {remedy}", code) from error
    with out.open("x", encoding="utf-8") as file:
        file.write(picture(graph, space.text(genotype)))
    print_facts({
        "task": spec.name,
        "genotype": genotype.hex(),
        "architecture": space.text(genotype),
        "parameters": graph.cost.parameters,
        "MACs": graph.cost.macs,
        "written to": out,
    })  # fmt: skip
    return 0


def _of_result(url: str, text: str) -> tuple[TaskSpec, str]:
    """Task and genotype of a result, from a node. Raises ClientError, UserError."""
    from ponas_node.client import NodeClient

    id = options.find_id(text)
    if id is None:
        raise UserError(f"{text!r} is not the id of a result, which has 64 hexadecimal digits.", USAGE)

    async def fetch() -> tuple[TaskSpec, str]:
        async with NodeClient(url) as client:
            spec, result = await fetch_result(client, id)
        with complete_answer():
            return spec, bytes.fromhex(result["genotype"]).hex()

    return asyncio.run(fetch())
