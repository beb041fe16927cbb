"""Exported models: ONNX Runtime gives the integers of exact evaluation; safetensors hold the whole model."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from consensus import exact
from consensus.datasets import BUILTIN, digits
from consensus.exact import Recipe, reference
from consensus.exact.plan import plan
from consensus.spaces import InputShape, InvalidGenotype, get_space
from ponas_node.export import Trained, differences, exact_logits, predictions, run_onnx, to_onnx, to_safetensors
from tests.exact.helpers import random_dataset

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

SHORT = Recipe(steps=12, batch=16, segments=1, learning_rate=320)


def trained(name, rng, dataset, most_macs=500_000, recipe=SHORT) -> Trained:
    """A random network of a space, trained a little."""
    space = get_space(name)
    for _ in range(2000):
        genotype = space.sample(rng)
        try:
            graph = space.decode(genotype, dataset.shape)
        except InvalidGenotype:
            continue
        if graph.cost.macs <= most_macs:
            break
    else:
        raise AssertionError("no network is that small")
    model = exact.decode_model(exact.train(graph, dataset, recipe, b"export").model, graph)
    return Trained("task", name, genotype, graph, model, dataset.train.samples.dtype.name)


@pytest.mark.parametrize("seed", range(20))
def test_20_random_architectures_on_a_whole_test_split(seed):
    rng = random.Random(seed)
    name = ("stages-v1", "nb201-v1", "stages-v1", "mlp-v1")[seed % 4]
    dataset = BUILTIN["breast-cancer"]() if name == "mlp-v1" else digits()
    one = trained(name, rng, dataset)
    data, test = to_onnx(one), dataset.test
    assert differences(one, data, test.samples) == 0
    logits, predicted = run_onnx(data, test.samples)
    assert np.array_equal(logits, exact_logits(one.graph, one.model, test.samples))
    right = int((predicted == test.labels).sum())
    assert right == exact.evaluate(one.graph, one.model, test.samples, test.labels)


@pytest.mark.parametrize("seed", range(12))
def test_odd_shapes_and_extreme_samples(seed):
    """uint8 and int8 over their whole range, sizes that are not square or even, against the definition itself."""
    rng = random.Random(100 + seed)
    name = ("stages-v1", "nb201-v1", "mlp-v1")[seed % 3]
    shape = InputShape(rng.randint(3, 9), rng.randint(3, 9), rng.randint(1, 3), rng.randint(2, 6))
    dataset = random_dataset(rng, shape)
    one = trained(name, rng, dataset, 400_000, Recipe(steps=2, batch=4, segments=1))
    wanted = reference.forward(one.graph, dataset.test.samples, one.model).reshape(11, -1)
    logits, predicted = run_onnx(to_onnx(one), dataset.test.samples)
    assert np.array_equal(logits, wanted)
    assert np.array_equal(predicted, predictions(wanted))


def test_extreme_weights_stay_exact():
    """Weights of 127 and 126, biases as large as they may be: sums as long as they can be."""
    rng = random.Random(7)
    dataset = random_dataset(rng, InputShape(6, 7, 2, 3))
    one = trained("stages-v1", rng, dataset, 400_000, Recipe(steps=2, batch=4, segments=1))
    layers, limits = [], plan(one.graph).limits
    for index, layer in zip(one.graph.weight_shapes, one.model.layers, strict=True):
        weights = np.where(np.arange(layer.weights.size).reshape(layer.weights.shape) % 7 == 3, -126, 127)
        room = 2**24 - 1 - limits[one.graph.nodes[index].inputs[0]] * np.abs(weights).sum(axis=0)
        biases = (room * np.resize([1, -1], len(room))).astype(np.int32)
        layers.append(layer._replace(weights=weights.astype(np.int8), biases=biases))
    model = exact.Model((*layers[:-1], layers[-1]._replace(biases=one.model.layers[-1].biases)), one.model.exponent)
    exact.decode_model(model.encode(), one.graph)
    extreme = Trained(one.task, one.space, one.genotype, one.graph, model, one.sample_kind)
    assert differences(extreme, to_onnx(extreme), dataset.test.samples) == 0


def test_ties_are_no_prediction():
    assert predictions(np.array([[1, 5, 5], [1, 5, 4], [-3, -3, -3]])).tolist() == [-1, 1, -1]
    rng = random.Random(8)
    dataset = random_dataset(rng, InputShape(4, 4, 1, 3))
    one = trained("stages-v1", rng, dataset, 100_000, Recipe(steps=1, batch=4, segments=1))
    last = one.model.layers[-1]
    model = exact.Model((*one.model.layers[:-1], last._replace(weights=np.zeros_like(last.weights))), 0)
    flat = Trained(one.task, one.space, one.genotype, one.graph, model, one.sample_kind)
    assert (run_onnx(to_onnx(flat), dataset.test.samples)[1] == -1).all()


def test_files_say_what_they_are_and_are_the_same_every_time():
    one = trained("nb201-v1", random.Random(3), digits())
    data = to_onnx(one)
    assert data == to_onnx(one)
    loaded = onnx.load_from_string(data)
    facts = {entry.key: entry.value for entry in loaded.metadata_props}
    assert facts["genotype"] == one.genotype.hex() and facts["architecture"].startswith("|")
    assert {node.op_type for node in loaded.graph.node}.isdisjoint({"Conv", "Gemm", "BatchNormalization"})


def test_safetensors_hold_the_whole_model(tmp_path):
    one = trained("stages-v1", random.Random(4), digits())
    data = to_safetensors(one)
    assert data == to_safetensors(one)
    tensors = safetensors.load(data)
    layers = [
        exact.model.Layer(*(tensors[f"node{index}.{part}"] for part in ("weight", "bias", "shift")))
        for index in plan(one.graph).shifts
    ]
    last = one.model.layers[-1]._replace(weights=tensors[f"node{len(one.graph.nodes) - 1}.weight"])
    (tmp_path / "a").write_bytes(data)
    from safetensors import safe_open

    with safe_open(tmp_path / "a", "numpy") as file:
        facts = json.loads(file.metadata()["ponas"])
    back = exact.Model((*layers, last), facts["logit_exponent"])
    assert back.encode() == one.model.encode()
    assert bytes.fromhex(facts["genotype"]) == one.genotype


# ---- the command


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    from ponas_node.cli.main import main

    monkeypatch.chdir(tmp_path)

    def go(*arguments, code=0):
        got = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert got == code, out + err
        assert "Traceback" not in err
        return out if code == 0 else err

    return go


def test_export_of_a_model_file(run, monkeypatch):
    genotype = bytes([0, 0, 1, 1, 0, 1] + [0] * 9).hex()
    run("train", "--task", "digits", "--genotype", genotype, "--steps", "8", "--save", "model.bin")
    base = ["export", "model.bin", "--task", "digits", "--genotype", genotype]
    out = run(*base, "--format", "onnx", "--out", "m.onnx")
    assert "all 372 test samples" in out and Path("m.onnx").stat().st_size > 1000
    assert "left as it is" in run(*base, "--format", "onnx", "--out", "m.onnx", code=1)
    run(*base, "--format", "safetensors", "--out", "m.safetensors")
    assert "needs --task" in run("export", "model.bin", "--format", "onnx", "--out", "x", code=2)
    assert "neither" in run("export", "none.bin", "--format", "onnx", "--out", "x", code=2)
    assert "no folder" in run(*base, "--format", "onnx", "--out", "no/x", code=2)
    assert "genes" in run(*base[:-1], "00", "--format", "onnx", "--out", "x", code=2)
    other = bytes([0, 1, 1, 1, 0, 1] + [0] * 9).hex()
    assert "cannot be exported" in run(*base[:-1], other, "--format", "onnx", "--out", "x", code=1)
    run(*base, "--format", "gif", "--out", "x", code=2)
    monkeypatch.setattr("ponas_node.export.differences", lambda *_: 3)
    assert "3 of 372" in run(*base, "--format", "onnx", "--out", "x", code=1)
    assert not Path("x").exists()
    run(*base, "--format", "onnx", "--out", "x", "--no-check")


def test_missing_packages_are_named(run, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    genotype = bytes([0, 0, 1, 1, 0, 1] + [0] * 9).hex()
    run("train", "--task", "digits", "--genotype", genotype, "--steps", "8", "--save", "model.bin")
    monkeypatch.setattr("ponas_node.export.to_onnx", missing)
    base = ["export", "model.bin", "--task", "digits", "--genotype", genotype]
    assert "ponas-node[export]" in run(*base, "--format", "onnx", "--out", "x", code=1)
