"""Folders of states: written by `ponas train --states`, checked segment by segment by `ponas replay`."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
from pathlib import Path

import pytest

from consensus import exact
from consensus.datasets import digits
from consensus.exact import Recipe
from consensus.spaces import get_space
from consensus.tasks import input_shape
from ponas_node.cli import states
from ponas_node.cli.main import main
from tests.cli.conftest import one_line
from tests.cli.test_commands import GENOTYPE, TASK, reveal_trained

FOLDER = Path("run")
TRAIN = ["train", "--task", "task.json", "--genotype", GENOTYPE.hex(), "--states"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of three segments."""
    root = tmp_path_factory.mktemp("trained")
    (root / "task.json").write_text(json.dumps({**TASK, "steps": 9, "segments": 3}))
    assert main(["train", "--task", str(root / "task.json"), *TRAIN[3:], str(root / "run")]) == 0
    return root / "run"


@pytest.fixture
def folder(trained: Path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(trained, FOLDER))


def facts(folder: Path) -> dict:
    return json.loads((folder / "training.json").read_text())


def change(folder: Path, **values: object) -> None:
    (folder / "training.json").write_text(json.dumps({**facts(folder), **values}))


def lie(folder: Path, index: int, state: exact.State) -> None:
    """Put another state in the place of one, and its hash among the leaves."""
    (folder / f"{index:03}.state").write_bytes(state.encode())
    leaves = facts(folder)["leaves"]
    leaves[index] = state.digest().hex()
    change(folder, leaves=leaves)


def other_state(folder: Path, index: int, step: int) -> exact.State:
    """A state in which one weight is different."""
    graph = get_space("stages-v1").decode(GENOTYPE, digits().shape)
    old = exact.decode_state((folder / f"{index:03}.state").read_bytes(), graph)
    weights = old.weights.copy()
    weights[7] += 1
    return exact.State(weights, old.momentum, old.running, step)


def test_a_folder_stands_alone(run, folder):
    names = ["000.state", "001.state", "002.state", "003.state", "dataset.bin", "model.bin", "training.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert exact.content_id((folder / "model.bin").read_bytes()).hex() == facts(folder)["leaves"][-1]
    out = run("replay", folder)
    assert "EQUAL: all 3 segments of folder run" in out and "NOT" not in out
    assert "initial state" in out and "model" in out
    assert "EQUAL: all 3 segments" in run("replay", folder, "--segment", "all")
    for index in (1, 2, 3):  # the first segment needs its own state only
        (folder / f"{index:03}.state").unlink()
    out = run("replay", folder, "--segment", "0")
    assert "EQUAL: segment 0 of folder run" in out and "segment 1" not in out and "model" not in out


def test_states_of_fewer_steps_than_the_task_has(run):
    Path("task.json").write_text(json.dumps(TASK))
    assert "3 states of" in run(*TRAIN, FOLDER, "--steps", "2")
    assert "EQUAL: all 2 segments" in run("replay", FOLDER)


def test_every_lie_is_found_by_the_segment_that_tells_it(run, folder):
    lie(folder, 2, other_state(folder, 2, 6))
    assert "EQUAL" in run("replay", folder, "--segment", "0")
    assert "NOT EQUAL: end of segment 1" in run("replay", folder, "--segment", "1", code=1)
    assert "NOT EQUAL: end of segment 2" in run("replay", folder, "--segment", "2", code=1)
    out = run("replay", folder, code=1)
    assert "EQUAL to leaf 1" in out and "NOT EQUAL: end of segment 1" in out and "false" in out


def test_a_false_start_and_a_false_model(run, folder):
    leaves = facts(folder)["leaves"]
    change(folder, leaves=[*leaves[:-1], "ab" * 32])
    assert "EQUAL: segment 1" in run("replay", folder, "--segment", "1")
    assert "NOT EQUAL: model" in run("replay", folder, "--segment", "2", code=1)
    lie(folder, 0, other_state(folder, 0, 0))
    assert "NOT EQUAL: initial state" in run("replay", folder, "--segment", "0", code=1)


def test_leaves_of_what_is_no_state_there(run, folder):
    lie(folder, 1, other_state(folder, 1, 2))
    assert "at step 2 instead of 3" in run("replay", folder, "--segment", "1", code=1)
    wild = other_state(folder, 1, 3)
    wild.weights[0] = 1 << 30
    lie(folder, 1, wild)
    assert "NOT EQUAL: the bytes of leaf 1" in run("replay", folder, "--segment", "1", code=1)


def test_states_that_prove_nothing(run, folder):
    path = folder / "001.state"
    data = path.read_bytes()
    ask = ["replay", folder, "--segment", "1"]
    path.write_bytes(data[:-1] + b"\1")
    assert "no leaf has that" in one_line(run(*ask, code=1))
    path.write_bytes((folder / "002.state").read_bytes())
    assert "that is leaf 2" in one_line(run(*ask, code=1))
    path.write_bytes(data[:-1])
    assert "another network" in one_line(run(*ask, code=1))
    path.write_bytes(data + b"\0")
    assert "more than" in one_line(run(*ask, code=1))
    path.unlink()
    assert "no file run/001.state" in one_line(run(*ask, code=1))
    assert "from 0 to 2" in one_line(run(*ask[:2], "--segment", "3", code=2))
    assert "whole number" in one_line(run(*ask[:2], "--segment", "x", code=2))
    assert "nor a folder" in one_line(run("replay", "nowhere", code=2))


def test_a_damaged_folder(run, folder):
    good = facts(folder)
    path = folder / "dataset.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\xff")
    assert "not the task's dataset" in one_line(run("replay", folder, code=1))
    path.write_bytes(data)
    bad_recipe = {"spec": {**good["spec"], "steps": 8}}
    for values in (
        bad_recipe, {"format": "ponas/training/9"}, {"leaves": good["leaves"][1:]}, {"leaves": None}, {"leaves": "ab"},
        {"seed": "ab"}, {"seed": 7}, {"genotype": ""}, {"genotype": "ff" * 15}, {"spec": None}, {"spec": {}},
        {"spec": {**good["spec"], "space": "none"}}, {"spec": {**good["spec"], "height": 9}},
        {"spec": {**good["spec"], "dataset": "00" * 32}},
    ):  # fmt: skip
        change(folder, **values)
        one_line(run("replay", folder, code=2 if values is bad_recipe else 1))
        change(folder, **good)
    for text in ("", "[]", "[" * 100_000, "\0"):
        (folder / "training.json").write_text(text)
        one_line(run("replay", folder, code=1))
    (folder / "training.json").unlink()
    assert "when the training has ended" in one_line(run("replay", folder, code=1))


def test_values_of_other_types_are_refused(capsys, folder):
    """Whatever is put in the place of a value of training.json, there is a plain answer."""
    good = facts(folder)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(60):
        wrong = rng.choice([None, True, -1, 1 << 70, 1.5, "", "zz", "ab" * 32, [], [[]], {}, {"a": 1}])
        name = rng.choice(sorted(good["spec"]))
        change(folder, spec={**good["spec"], name: wrong})
        assert main(["replay", str(folder), "--segment", "0"]) in (0, 1, 2), (name, wrong)
    capsys.readouterr()


def test_training_leaves_folders_alone_and_checks_room(run, monkeypatch):
    Path("task.json").write_text(json.dumps(TASK))
    FOLDER.mkdir()
    (FOLDER / "mine").write_text("mine")
    assert "left as it is" in one_line(run(*TRAIN, FOLDER, code=1))
    assert "left as it is" in one_line(run(*TRAIN, FOLDER / "mine", code=1))
    assert "no folder" in one_line(run(*TRAIN, "no/where", code=1))
    (FOLDER / "mine").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
        assert "has room for 1,000" in run(*TRAIN, FOLDER, code=1)
    assert "states in" in run(*TRAIN, FOLDER)


def test_a_disk_that_fills_up(run, monkeypatch):
    Path("task.json").write_text(json.dumps(TASK))
    write, opened = states.StateWriter._write, Path.open

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path, mode):
        opened(path, mode).close()
        return Full()

    def write_full(self, name, data):
        with monkeypatch.context() as patch:
            if name == "001.state":
                patch.setattr(Path, "open", open_full)
            write(self, name, data)

    monkeypatch.setattr(states.StateWriter, "_write", write_full)
    told = run(*TRAIN, FOLDER, code=1)
    assert "No space left on device" in told and "1 states are in run" in told
    assert sorted(path.name for path in FOLDER.iterdir()) == ["000.state", "dataset.bin"]


def test_a_result_of_the_chain_and_its_states(run, node):
    id = reveal_trained(node, lie=True)  # in leaf 2
    spec = node.world.genesis.tasks[0].spec
    graph = get_space(spec.space).decode(GENOTYPE, input_shape(spec))
    recipe = Recipe(spec.steps, spec.batch, spec.segments, spec.learning_rate)
    kept: list[exact.State] = []
    seed = bytes.fromhex(json.loads(run("inspect", "result", id, "--json", "--node", node.url))["seed"])
    exact.train(graph, digits(), recipe, seed, on_state=kept.append)
    FOLDER.mkdir()
    for index, state in enumerate(kept):
        (FOLDER / f"{index:03}.state").write_bytes(state.encode())
    ask = ["replay", id, "--states", FOLDER, "--node", node.url]
    assert "EQUAL: segment 0 of result" in run(*ask, "--segment", "0")
    assert "NOT EQUAL: end of segment 1" in run(*ask, "--segment", "1", code=1)
    assert "needs no --states" in one_line(run("replay", FOLDER, "--states", FOLDER, code=2))
