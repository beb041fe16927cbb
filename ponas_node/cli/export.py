"""ponas export: take a trained model along to other tools."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.claim import complete_answer, fetch_result
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.taskfile import MOST_DATASET

if TYPE_CHECKING:
    from consensus.types import TaskSpec
    from ponas_node.export import Trained

_ABOUT = """\
Write a trained model as ONNX or safetensors. RESULT is the id of a result, whose model a node has, or a file that
`ponas train --save` wrote; then --task and --genotype say what it is. An ONNX model is run on the whole test split and
must give the logits of the exact evaluation, sample by sample; else nothing is written.
"""
_EXAMPLES = """\
  ponas export RESULT_ID --format onnx --out best.onnx
  ponas export RESULT_ID --format safetensors --node http://127.0.0.1:8645 --out best.safetensors
  ponas export model.bin --task digits --genotype 000000000000000000000000000000 --format onnx --out model.onnx
"""
_MOST_MODEL = 1 << 28


def register(subparsers: options.Subparsers) -> None:
    """Add `export`."""
    parser = options.add_command(subparsers, "export", "write a model as ONNX or safetensors", _ABOUT, _EXAMPLES)
    add = parser.add_argument
    add("result", metavar="RESULT", help="id of a result, 64 hexadecimal digits, or a file of a model")
    add("--format", required=True, choices=("onnx", "safetensors"), help="what to write")
    options.add_out(parser)
    add("--task", metavar="NAME|FILE", help="task of a model file, as for `ponas train`")
    add("--genotype", metavar="HEX", help="architecture of a model file")
    add("--no-check", action="store_true", help="do not run the ONNX model on the test split")
    options.add_node(parser)
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    out = options.out_path(arguments)
    id = options.find_id(arguments.result)
    if id is not None:
        spec, genotype, model, dataset = asyncio.run(_fetch(arguments.node, id))
    else:
        spec, genotype, model, dataset = _local(arguments)

    import torch

    from consensus.datasets import BadDataset, decode_dataset
    from ponas_node import export

    torch.set_num_threads(1)
    try:
        data = decode_dataset(dataset, len(dataset))
    except BadDataset as error:
        raise UserError(f"The task's data set cannot be used: {error}") from error
    trained = _trained(spec, genotype, model, data.train.samples.dtype.name)
    checked = None
    try:
        if arguments.format == "safetensors":
            written = export.to_safetensors(trained)
        else:
            written = export.to_onnx(trained)
            if not arguments.no_check:
                wrong = export.differences(trained, written, data.test.samples)
                if wrong:
                    raise UserError(
                        f"ONNX Runtime treats {wrong} of {len(data.test)} test samples differently here, so nothing "
                        "was written: this build of it rounds. --no-check writes the model all the same."
                    )
                checked = f"ONNX Runtime gives the exact logits of all {len(data.test)} test samples"
    except ImportError as error:
        raise UserError(f"{error.name} is needed for this: pip install 'ponas-node[export]'.") from error
    with out.open("xb") as file:
        file.write(written)
    print_facts({**trained.facts, "checked": checked, "written to": out, "bytes": len(written)})
    return 0


def _trained(spec: TaskSpec, genotype: bytes, model: bytes, sample_kind: str) -> Trained:
    """The model of `model`, which may come from a stranger. Raises UserError."""
    from consensus.exact import BadModel, decode_model
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
    from consensus.tasks import input_shape
    from ponas_node.export import Trained

    try:
        graph = get_space(spec.space).decode(genotype, input_shape(spec))
        return Trained(spec.name, spec.space, genotype, graph, decode_model(model, graph), sample_kind)
    except (BadModel, InvalidGenotype, UnknownSpace) as error:
        raise UserError(f"This model cannot be exported: {error}") from error


def _local(arguments: argparse.Namespace) -> tuple[TaskSpec, bytes, bytes, bytes]:
    """Task, genotype, model and data set of a model file. Raises UserError."""
    from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
    from ponas_node.cli.taskfile import load_task

    path = Path(arguments.result).expanduser()
    if not path.is_file():
        raise UserError(
            f"{arguments.result!r} is neither the id of a result (64 hexadecimal digits) nor a file.", USAGE
        )
    if arguments.task is None or arguments.genotype is None:
        raise UserError("A file of a model needs --task and --genotype, as it was trained with.", USAGE)
    if path.stat().st_size > _MOST_MODEL:
        raise UserError(f"{path} is larger than a model can be.")
    task = load_task(arguments.task)
    if task.dataset is None:
        raise UserError("To export, the task file must name its dataset by a path, not by its id.", USAGE)
    try:
        space = get_space(task.spec.space)
        genotype = space.canonical(space.parse(arguments.genotype))
    except (InvalidGenotype, UnknownSpace) as error:
        raise UserError(str(error), USAGE) from error
    return task.spec, genotype, path.read_bytes(), task.dataset


async def _fetch(url: str, id: str) -> tuple[TaskSpec, bytes, bytes, bytes]:
    """Task, genotype, model and data set of a result, from a node. Raises ClientError, UserError."""
    from ponas_node.client import NodeClient

    async with NodeClient(url, timeout=300) as client:
        spec, result = await fetch_result(client, id)
        with complete_answer():
            genotype, model_id = bytes.fromhex(result["genotype"]), bytes.fromhex(result["model"])
        model = await client.artifact(model_id, _MOST_MODEL)
        dataset = await client.artifact(spec.dataset, min(spec.dataset_bytes, MOST_DATASET))
    return spec, genotype, model, dataset
