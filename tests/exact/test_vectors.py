"""The golden vectors, for this implementation and for others; see docs/exact-training.md."""

import base64
import json

import numpy as np
import pytest

from consensus.datasets import BUILTIN, decode_dataset, encode_dataset
from consensus.exact import Recipe, decode_model, device, evaluate, initial_state, reference, run_segment, train
from consensus.spaces import get_space
from tests.exact.make_vectors import FOLDER, operations

TRAININGS = sorted(path.stem for path in FOLDER.glob("training-*.json"))


def test_operations_give_what_is_written():
    written = json.loads((FOLDER / "operations.json").read_text())
    assert written == {"format": "ponas/exact/operations/1", "cases": json.loads(json.dumps(operations()))}


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_give_the_leaves_that_are_written(name):
    written = json.loads((FOLDER / f"{name}.json").read_text())
    data = written["dataset_bytes"]
    data = base64.b64decode(data) if data else encode_dataset(BUILTIN[written["dataset"]]())
    dataset = decode_dataset(data, len(data))
    graph = get_space(written["space"]).decode(bytes.fromhex(written["genotype"]), dataset.shape)
    result = train(graph, dataset, Recipe(**written["recipe"]), bytes.fromhex(written["seed"]))
    assert [leaf.hex() for leaf in result.leaves] == written["leaves"]
    assert base64.b64encode(result.model).decode() == written["model_bytes"]
    model = decode_model(result.model, graph)
    assert evaluate(graph, model, dataset.test.samples, dataset.test.labels) == written["test_correct"]


def test_the_self_test_ends_where_its_vector_does():
    written = json.loads((FOLDER / "training-self-test.json").read_text())
    assert written["leaves"][1] == device.GOLDEN
    graph, data, seed = device.golden_graph(), device.golden_data(), device.GOLDEN_SEED
    start = initial_state(graph, seed)
    assert start.digest().hex() == written["leaves"][0]
    fast = run_segment(graph, data, device.GOLDEN_RECIPE, seed, start, 0)
    slow = reference.run_segment(graph, data, device.GOLDEN_RECIPE, seed, start)
    assert np.array_equal(fast.running, slow.running) and fast.running.any()
