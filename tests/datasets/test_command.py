"""`ponas dataset`."""

import json

import numpy as np
import pytest

from consensus.datasets import decode_dataset
from ponas_node.cli.main import main


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def go(*arguments, code=0):
        got = main(["dataset", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert got == code, out + err
        assert "Traceback" not in err and (code == 0 or code == 2 or err.count("\n") == 1)
        return out if code == 0 else err

    return go


def test_import_and_show(run, tmp_path):
    rows = "\n".join(f"{index},{index % 3},{'yes' if index % 2 else 'no'}" for index in range(200))
    (tmp_path / "my table.csv").write_text(rows)
    out = run("import", "my table.csv", "--out", "t.pnd")
    assert "no" in out and "yes" in out and "my-table" in out and "always guessing" in out
    data = (tmp_path / "t.pnd").read_bytes()
    assert decode_dataset(data, len(data)).shape.classes == 2
    shown = json.loads(run("show", "t.pnd", "--json"))
    assert shown["name"] == "my-table" and shown["bytes"] == len(data) and len(shown["id"]) == 64
    assert sum(map(sum, shown["counts"].values())) == 200
    assert "left as it is" in run("import", "my table.csv", "--out", "t.pnd", code=1)
    again = json.loads(run("import", "my table.csv", "--out", "u.pnd", "--json"))
    assert again["id"] == shown["id"] and again["classes"] == ["no", "yes"]


def test_show_built_in(run):
    assert "372 samples" in run("show", "digits")
    assert "few" in run("show", "wine")


def test_generate(run, tmp_path):
    shape = ["--train", 300, "--validation", 50, "--test", 100]
    one = json.loads(run("generate", "--seed", "07", "--difficulty", 20, *shape, "--out", "a.pnd", "--json"))
    two = json.loads(run("generate", "--seed", "07", "--difficulty", 20, *shape, "--out", "b.pnd", "--json"))
    assert one["id"] == two["id"] and sum(one["counts"]["train"]) == 300
    assert "difficulty" in run("generate", "--difficulty", 101, "--out", "c.pnd", code=2)
    assert "hexadecimal" in run("generate", "--seed", "xy", "--out", "c.pnd", code=2)
    assert "fewer" in run("generate", "--train", 10**12, "--out", "c.pnd", code=2)
    assert not (tmp_path / "c.pnd").exists()


def test_bad_input_is_told_in_a_sentence(run, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 5)))
    assert "x and y" in run("import", "a.npz", "--out", "o.pnd", code=1)
    assert "28x28x1" in run("import", "a.npz", "--image", "5", "--out", "o.pnd", code=2)
    assert "no folder" in run("import", "a.npz", "--out", "no/where.pnd", code=2)
    assert "No such file" in run("import", "none.csv", "--out", "o.pnd", code=1)
    assert "known kind" in run("import", "none.xyz", "--out", "o.pnd", code=1)
    assert "Built-in" in run("show", "none", code=2)
    assert "no data set" in run("show", "a.npz", code=1)
    assert not (tmp_path / "o.pnd").exists()
    run("import", "a.npz", code=2)
