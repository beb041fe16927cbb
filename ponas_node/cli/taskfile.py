"""Task files: a task as JSON, written by hand. The dataset's shape is read from the dataset, not from the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli.errors import USAGE, UserError

if TYPE_CHECKING:
    from consensus.types import SealedSplit, TaskSpec

_MOST_FILE = 1 << 20
MOST_DATASET = 1 << 30
_SHAPE = ("dataset_bytes", "height", "width", "channels", "classes", "test_samples")
_RECIPE = ("max_parameters", "max_macs", "steps", "batch", "segments", "learning_rate", "eval_samples", "baseline")
_REQUIRED = frozenset({"name", "dataset", "space", *_RECIPE})
_OPTIONAL = frozenset({"bounty_per_epoch", "epochs", "sealed", *_SHAPE})

# What `ponas train --task digits` trains; the network's own tasks stand in its genesis file.
DIGITS: dict[str, Any] = {
    "name": "digits", "dataset": "digits", "space": "stages-v1", "max_parameters": 100_000, "max_macs": 600_000,
    "steps": 400, "batch": 32, "segments": 8, "learning_rate": 640, "eval_samples": 256, "baseline": 8000,
}  # fmt: skip
BUILT_IN = {"digits": DIGITS}


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task as its publisher wrote it. `dataset`: its bytes, or None where the file names it by its id only.

    `splits`: the encrypted bytes of its sealed test splits, with what is published of them.
    """

    spec: TaskSpec
    epochs: int
    dataset: bytes | None
    splits: tuple[tuple[SealedSplit, bytes], ...] = ()


def load_task(name: str) -> TaskFile:
    """The built-in task `name`, or the one in the file of that name. Raises UserError."""
    if name in BUILT_IN:
        return build_task(BUILT_IN[name], Path())
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE + 1)
    except OSError as error:
        known = ", ".join(sorted(BUILT_IN))
        raise UserError(f"The task file {path} cannot be read: {error.strerror}. Built-in tasks: {known}.") from error
    try:
        raw = json.loads(data) if len(data) <= _MOST_FILE else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"The task file {path} is not JSON: {error}. See docs/publishing-a-task.md.") from error
    if not isinstance(raw, dict):
        raise UserError(f"The task file {path} must hold one JSON object. See docs/publishing-a-task.md.")
    return build_task(raw, path.parent)


def build_task(raw: dict[str, Any], folder: Path) -> TaskFile:
    """A task from the fields of a task file; a dataset's path counts from `folder`. Raises UserError."""
    from chain.artifact import artifact_id
    from chain.errors import BadEncoding
    from consensus.types import TaskSpec

    missing, unknown = sorted(_REQUIRED - raw.keys()), sorted(raw.keys() - _REQUIRED - _OPTIONAL)
    if missing or unknown:
        parts = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names]
        raise UserError(f"Task file: {'; '.join(parts)}. See docs/publishing-a-task.md.")
    data = _read_dataset(raw["dataset"], folder)
    shape = {name: raw.get(name) for name in _SHAPE} if data is None else _shape_of(data)
    for name, value in shape.items():
        if raw.get(name, value) != value or value is None:
            found = "is needed where the dataset is named by its id" if value is None else f"is {value} in the dataset"
            raise UserError(f"Task file: {name} {found}. See docs/publishing-a-task.md.")
    epochs = raw.get("epochs", 1)
    if type(epochs) is not int or not 1 <= epochs <= 1 << 20:
        raise UserError("Task file: epochs must be a whole number from 1 to 1048576.")
    spec = TaskSpec(
        name=raw["name"],
        dataset=bytes.fromhex(raw["dataset"]) if data is None else artifact_id(data),
        space=raw["space"],
        bounty_per_epoch=_bounty(raw.get("bounty_per_epoch", "0")),
        **shape,
        **{name: raw[name] for name in _RECIPE},
    )
    try:
        spec = TaskSpec.decode(spec.encode())
    except (BadEncoding, TypeError, ValueError, OverflowError) as error:
        text = str(error).replace("TaskSpec.", "")
        raise UserError(f"Task file: {text}. See docs/publishing-a-task.md.") from error
    return TaskFile(spec, epochs, data, _splits(raw.get("sealed"), folder, spec))


def _splits(name: object, folder: Path, spec: TaskSpec) -> tuple[tuple[SealedSplit, bytes], ...]:
    from consensus.tasks import sealed_bytes
    from ponas_node.split_keys import BadSplitKeys, read_split_keys

    if name is None:
        return ()
    if not isinstance(name, str):
        raise UserError("Task file: sealed is the path of a file of keys that `ponas dataset seal` wrote.")
    try:
        splits = read_split_keys(folder / Path(name).expanduser())
        return tuple((split.public, split.read(sealed_bytes(spec))) for split in splits)
    except BadSplitKeys as error:
        raise UserError(f"Task file: sealed: {error}. See docs/publishing-a-task.md.") from error


def _bounty(value: object) -> int:
    from ponas_node.units import BadAmount, parse_amount

    if not isinstance(value, str):
        raise UserError('Task file: bounty_per_epoch is an amount in PONAS, written as text, such as "1.5".')
    try:
        return parse_amount(value)
    except BadAmount as error:
        raise UserError(f"Task file: bounty_per_epoch: {error}.") from error


def _read_dataset(name: object, folder: Path) -> bytes | None:
    """The bytes of the built-in dataset or of the file `name`; None where `name` is an id."""
    if not isinstance(name, str) or not name:
        raise UserError(
            'Task file: dataset is the name of a built-in one ("digits"), a path, or an id of 64 hex digits.'
        )
    if len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return None
    from consensus.datasets import BUILTIN, encode_dataset

    if name in BUILTIN:
        return encode_dataset(BUILTIN[name]())
    path = folder / Path(name).expanduser()
    try:
        if path.stat().st_size > MOST_DATASET:
            raise UserError(f"The dataset {path} is larger than {MOST_DATASET >> 20} MiB.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"The dataset {path} cannot be read: {reason}. Check the path in the task file.", USAGE
        ) from error


def _shape_of(data: bytes) -> dict[str, int]:
    from consensus.datasets import BadDataset, decode_dataset

    try:
        dataset = decode_dataset(data, len(data))
    except BadDataset as error:
        raise UserError(f"The dataset cannot be used: {error} See docs/publishing-a-task.md.") from error
    shape = dataset.shape
    return {
        "dataset_bytes": len(data),
        "height": shape.height,
        "width": shape.width,
        "channels": shape.channels,
        "classes": shape.classes,
        "test_samples": len(dataset.test),
    }
