"""`ponas picture`: of a result, and of a genotype."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from consensus import records
from consensus.spaces import get_space
from ponas_node.api.render import plain
from tests.cli.conftest import one_line
from tests.cli.test_commands import SEND_DEAD, TASK

OUT = Path("net.svg")
STAGES = "000000000000000000000000000000"


def title(path: Path) -> str:
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return root[0].text


def test_of_a_result(run, node):
    id = node.view.compete()[0].id
    told = run("picture", id.hex(), "--out", OUT, "--node", node.url)
    found = records.result(node.view.chain.state, id)
    assert title(OUT) == get_space("stages-v1").text(found.genotype)
    assert title(OUT) in told and found.genotype.hex() in told and str(OUT) in told
    assert "no result" in one_line(run("picture", "00" * 32, "--out", "x", "--node", node.url, code=1)).lower()


def test_of_a_genotype(run):
    run("picture", "--genotype", STAGES, "--out", OUT)
    assert title(OUT) == "conv3-8 | mean" and "8 x 8 x 1" in OUT.read_text()
    first = OUT.read_bytes()
    assert "left as it is" in one_line(run("picture", "--genotype", "random", "--out", OUT, code=1))
    assert OUT.read_bytes() == first
    assert "architecture" in run("picture", "--task", "digits", "--genotype", "random", "--out", "random.svg")


def test_of_a_task_whose_dataset_is_not_here_and_whose_limits_are_small(run):
    shape = {"dataset_bytes": 5, "height": 1, "width": 30, "channels": 1, "classes": 2, "test_samples": 300}
    task = {**TASK, **shape, "dataset": "ab" * 32, "space": "mlp-v1", "max_macs": 1}
    Path("task.json").write_text(json.dumps(task))
    assert "dense-8" in run("picture", "--task", "task.json", "--genotype", "00" * 11, "--out", OUT)
    assert "1 x 30 x 1" in OUT.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either"), (["ab" * 32, "--genotype", "random"], "either"), (["ab" * 32, "--task", "digits"], "either"),
        (["--task", "digits"], "either"), (["xyz"], "not the id"), ([""], "not the id"),
        (["--genotype", "00"], "15 genes"), (["--genotype", "xyz"], "hexadecimal"),
    ],
)  # fmt: skip
def test_wrong_usage(run, arguments, words):
    assert words in one_line(run("picture", *arguments, "--out", OUT, *SEND_DEAD, code=2))
    assert not OUT.exists()


def test_what_cannot_be_written_or_reached(run):
    assert "no folder" in one_line(run("picture", "--genotype", STAGES, "--out", "no/where.svg", code=2))
    assert "--out" in run("picture", "--genotype", STAGES, code=2)
    assert "No node" in one_line(run("picture", "ab" * 32, "--out", OUT, *SEND_DEAD, code=1))
    assert "Built-in tasks: digits" in one_line(
        run("picture", "--task", "none", "--genotype", STAGES, "--out", OUT, code=1)
    )


@pytest.mark.parametrize(
    ("result", "task", "words"),
    [
        ({}, {}, "lacks something"), ({"genotype": "zz"}, {}, "lacks something"),
        ({"genotype": 5}, {}, "lacks something"), ({"genotype": "00"}, {}, "15 genes"),
        ({"genotype": STAGES}, {"space": "none"}, "No search space"),
        ({"genotype": STAGES}, {"height": 1 << 40}, "lacks something"),
    ],
)  # fmt: skip
def test_a_node_that_answers_nonsense(run, node, monkeypatch, result, task, words):
    """What a node tells is checked before anything is drawn from it."""
    spec = plain(node.world.genesis.tasks[0].spec)

    async def get(self, path):
        return result if "results" in path else {"spec": {**spec, **task}}

    monkeypatch.setattr("ponas_node.client.NodeClient.get", get)
    assert words in one_line(run("picture", "ab" * 32, "--out", OUT, "--node", node.url, code=1))
    assert not OUT.exists()
