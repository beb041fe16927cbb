"""Folders of a training's states: the state of every leaf, and all that it takes to run one segment again.

`000.state`, `001.state`, ...: canonical bytes of the states whose hashes are leaves 0, 1, ...; `training.json`: task,
genotype, seed and leaves, as a node tells them; `dataset.bin`, `model.bin`: canonical bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponas_node.cli.errors import UserError
from ponas_node.cli.taskfile import MOST_DATASET

if TYPE_CHECKING:
    from consensus.exact import Recipe, State, Training
    from consensus.spaces import Graph
    from consensus.types import TaskSpec

FORMAT = "ponas/training/1"
_FACTS, _DATASET, _MODEL = "training.json", "dataset.bin", "model.bin"
_MOST_FACTS = 1 << 20


def check_empty(folder: Path) -> None:
    """Raise UserError where a training could not be written to `folder`: better now than after it."""
    if not folder.parent.is_dir():
        raise UserError(f"There is no folder {folder.parent}: make it, or choose another with --states.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder and was left as it is: choose another with --states.")


class StateWriter:
    """Writes a training to a folder, state by state. Raises UserError where the disk has no room or refuses."""

    def __init__(self, folder: Path, graph: Graph, recipe: Recipe, dataset: bytes) -> None:
        from consensus.exact.state import state_bytes

        self.folder, self.count = folder, 0
        check_empty(folder)
        folder.mkdir(exist_ok=True)
        needed = (recipe.segments + 1) * state_bytes(graph) + len(dataset)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise UserError(f"The states need {needed:,} bytes and {folder} has room for {free:,}: free some space.")
        self._write(_DATASET, dataset)

    def add(self, state: State) -> None:
        """The next state, in the order of the leaves."""
        self._write(_state_name(self.count), state.encode())
        self.count += 1

    def finish(self, spec: TaskSpec, genotype: bytes, seed: bytes, done: Training) -> None:
        """The model, and last of all what the training was: a folder without that is of one that did not end."""
        self._write(_MODEL, done.model)
        facts = {
            "format": FORMAT,
            "spec": {**dataclasses.asdict(spec), "dataset": spec.dataset.hex()},
            "genotype": genotype.hex(),
            "seed": seed.hex(),
            "leaves": [leaf.hex() for leaf in done.leaves],
            "model": done.leaves[-1].hex(),
        }
        self._write(_FACTS, json.dumps(facts, indent=2).encode() + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:  # another program writes to the same folder: what it wrote is not ours to remove
            raise
        except OSError as error:
            path.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written: {error.strerror}. The training stopped; {self.count} states are in "
                f"{self.folder}. Free some space or choose another folder, and train again."
            ) from error


def read_facts(folder: Path) -> dict[str, Any]:
    """What `training.json` says; its values are not checked. Raises UserError."""
    path = folder / _FACTS
    if not path.exists():
        raise UserError(f"{folder} has no {_FACTS}: `ponas train --states` writes it when the training has ended.")
    try:
        facts = json.loads(_read(path, _MOST_FACTS))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}. Get the folder again.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f"{path} does not describe a training in the form {FORMAT!r}. Get the folder again.")
    return facts


def read_dataset(folder: Path, id: bytes) -> bytes:
    """The dataset of the folder, which must have this id. Raises UserError."""
    from chain.artifact import artifact_id

    data = _read(folder / _DATASET, MOST_DATASET)
    if artifact_id(data) != id:
        raise UserError(f"{folder / _DATASET} is not the task's dataset {id.hex()[:16]}. Get the folder again.")
    return data


def read_state(folder: Path, index: int, graph: Graph, leaves: Sequence[bytes]) -> bytes:
    """The bytes whose hash is leaf `index`: size first, then hash; what they mean is not checked. Raises UserError."""
    from consensus.exact.state import state_bytes

    path, wanted = folder / _state_name(index), state_bytes(graph)
    data = _read(path, wanted)
    if len(data) != wanted:
        raise UserError(
            f"{path} has {len(data)} bytes and a state of this network {wanted}: it is of another network, or cut off."
        )
    found = hashlib.sha256(data).digest()
    if found == leaves[index]:
        return data
    twin = f"that is leaf {leaves.index(found)}" if found in leaves else "no leaf has that"
    raise UserError(
        f"{path} is not the state of leaf {index}: its hash is {found.hex()[:16]}, {twin}; leaf {index} is "
        f"{leaves[index].hex()[:16]}. Nothing can be said about the segment without the right state."
    )


def _state_name(index: int) -> str:
    return f"{index:03}.state"


def _read(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes, which may come from a stranger. Raises UserError."""
    if not path.is_file():
        raise UserError(f"There is no file {path}: get it from whoever trained, or choose another folder.")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise UserError(f"{path} has more than the {most} bytes that it can have here: it is of another training.")
    return data
