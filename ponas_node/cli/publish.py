"""ponas publish: put a task of one's own on the chain, with a bounty."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts
from ponas_node.cli.wallet import add_genesis

if TYPE_CHECKING:
    from chain.keys import PrivateKey
    from consensus.genesis import Genesis
    from ponas_node.artifacts import ArtifactStore
    from ponas_node.cli.taskfile import TaskFile
    from ponas_node.client import NodeClient

_ABOUT = """\
Publish a task: a dataset, a search space, a training recipe and a bounty. The whole network then searches for the best
network for your data, and the bounty of every epoch is split over the best results. docs/publishing-a-task.md explains
the task file.
"""
_EXAMPLES = """\
  ponas publish task.json --data DIR --dry-run
  ponas publish task.json --data DIR --wallet publisher.json
  ponas publish task.json --yes --passphrase-file secret.txt
"""


def register(subparsers: options.Subparsers) -> None:
    """Add `publish`."""
    parser = options.add_command(subparsers, "publish", "publish a task with a bounty", _ABOUT, _EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="the task, as JSON")
    parser.add_argument(
        "--data", metavar="DIR", type=Path,
        help="data directory of your own node: the dataset is put there, so that the network can fetch it from you",
    )  # fmt: skip
    parser.add_argument("--fee", metavar="AMOUNT", help="fee in PONAS (default: the least that the network takes)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, send nothing")
    options.add_wallet(parser)
    options.add_passphrase(parser)
    options.add_node(parser)
    add_genesis(parser)
    options.add_yes(parser)
    parser.set_defaults(run=_publish)


def _publish(arguments: argparse.Namespace) -> int:
    from ponas_node.cli.taskfile import load_task
    from ponas_node.units import parse_amount

    fee = None if arguments.fee is None else parse_amount(arguments.fee)
    task = load_task(arguments.file)
    if not task.spec.bounty_per_epoch:
        raise UserError('A published task needs a bounty: set "bounty_per_epoch" in the task file.', USAGE)
    key = None if arguments.dry_run else options.unlock(arguments)
    return asyncio.run(_run(arguments, task, key, fee))


async def _run(arguments: argparse.Namespace, task: TaskFile, key: PrivateKey | None, fee: int | None) -> int:
    from chain.types import Kind
    from consensus.tasks import check_spec, check_splits
    from consensus.types import PublishBody, task_id
    from ponas_node.cli.transactions import fetch_genesis, make_transaction
    from ponas_node.client import NodeClient
    from ponas_node.units import format_amount

    bounties, splits = task.epochs * task.spec.bounty_per_epoch, tuple(split for split, _ in task.splits)
    async with NodeClient(arguments.node) as client:
        genesis = await fetch_genesis(client, arguments.genesis)
        check_spec(task.spec, genesis.consensus)
        check_splits(task.spec, splits, genesis.consensus)
        total = bounties + len(splits) * genesis.consensus.split_deposit
        _describe(genesis, task)
        if key is None:
            print("All is well with this task; nothing was sent.")
            return 0
        await _provide(client, arguments.data, task)
        body = PublishBody(task.spec, task.epochs, splits)
        transaction = await make_transaction(client, genesis, key, Kind.PUBLISH, body, fee, total)
        print_facts({"fee": format_amount(transaction.fee), "you pay": format_amount(total + transaction.fee)})
        options.confirm(arguments, "Publish it?")
        status = await client.send(transaction)
    task_name = task_id(task.spec, transaction.id).hex()
    print_facts({"transaction": transaction.id.hex(), "status": status, "task": task_name})
    return 0


def _describe(genesis: Genesis, task: TaskFile) -> None:
    from ponas_node.units import format_amount

    spec, deposit = task.spec, format_amount(genesis.consensus.split_deposit)
    print_facts({
        "network": f"{genesis.name} ({genesis.network.hex()[:16]})",
        "task": spec.name,
        "dataset": f"{spec.dataset.hex()} ({spec.dataset_bytes} bytes)",
        "samples": f"{spec.height} x {spec.width} x {spec.channels}, {spec.classes} classes",
        "space": spec.space,
        "limits": f"{spec.max_parameters} parameters, {spec.max_macs} MACs",
        "recipe": f"{spec.steps} steps of {spec.batch}, {spec.segments} segments, rate {spec.learning_rate}",
        "judged by": f"{spec.evaluated} test samples, at least {spec.baseline_correct} correct",
        "bounty": f"{format_amount(spec.bounty_per_epoch)} for each of {task.epochs} epochs",
        **({"sealed": f"{len(task.splits)} test splits, {deposit} each until its key is shown"} if task.splits else {}),
    })  # fmt: skip


async def _provide(client: NodeClient, data: Path | None, task: TaskFile) -> None:
    """See to it that the node has the dataset and the sealed splits: else it could not check the task."""
    own = [] if task.dataset is None else [task.dataset]
    if data is not None:
        store = node_artifacts(data)
        for artifact in (*own, *(sealed for _, sealed in task.splits)):
            await asyncio.to_thread(store.put, artifact)
    for id in (task.spec.dataset, *(split.artifact for split, _ in task.splits)):
        if not await client.has_artifact(id):
            raise UserError(
                f"The node at {client.url} does not hold the dataset or sealed split {id.hex()[:16]}: "
                "name the data directory of your own node with --data, and that node with --node."
            )


def node_artifacts(data: Path) -> ArtifactStore:
    """The artifacts in a node's data directory. Raises UserError where it is none."""
    from ponas_node.artifacts import ArtifactStore

    folder = data.expanduser()
    if not (folder / "db").is_dir():
        raise UserError(
            f"{folder} is not the data directory of a node. Start the node first, or name another by --data."
        )
    return ArtifactStore(folder / "artifacts")
