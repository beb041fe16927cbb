"""`ponas export RESULT_ID`: the model and data set of a revealed result, from a live node's API."""

from pathlib import Path

import numpy as np
import pytest

from consensus import exact, records
from consensus.datasets import digits
from consensus.exact import Recipe
from consensus.spaces import get_space
from consensus.tasks import input_shape
from ponas_node.cli.main import main
from ponas_node.export import exact_logits, run_onnx
from tests.cli.conftest import LiveNode
from tests.consensus.world import Found

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GENOTYPE = bytes([0, 0, 1, 1, 0, 1] + [0] * 9)


@pytest.fixture
def node(tmp_path):
    live = LiveNode(tmp_path / "node")
    yield live
    live.stop()


def test_export_of_a_result(node, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = node.world
    world.mint_to(1)
    spec = world.genesis.tasks[0].spec
    graph = get_space(spec.space).decode(GENOTYPE, input_shape(spec))
    recipe = Recipe(spec.steps, spec.batch, spec.segments, spec.learning_rate)
    done = exact.train(graph, digits(), recipe, records.current_epoch(world.chain.state).seed)
    world.facts.scores[done.leaves[-1]] = 250
    found = Found(GENOTYPE, done.leaves, bytes(32), 250)
    id = world.competition({1: [found]})[1][0].id.hex()

    base = ["export", id, "--node", node.url, "--format", "onnx", "--out", "m.onnx"]
    assert main(base) == 1  # the node does not hold the model yet
    err = capsys.readouterr().err
    assert err.startswith("ponas: ") and err.count("\n") == 1
    node.view.artifacts.put(done.model)
    assert main(base) == 0
    assert "all 372 test samples" in capsys.readouterr().out
    samples = digits().test.samples
    model = exact.decode_model(done.model, graph)
    assert np.array_equal(run_onnx(Path("m.onnx").read_bytes(), samples)[0], exact_logits(graph, model, samples))
    assert main(["export", "00" * 32, "--node", node.url, "--format", "onnx", "--out", "x"]) == 1
    assert "no result" in capsys.readouterr().err.lower()
