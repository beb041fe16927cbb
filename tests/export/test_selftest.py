"""`ponas selftest`."""

import json

from consensus.exact import device
from ponas_node.cli.main import main


def test_the_cpu_passes(capsys):
    assert main(["selftest", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "EXACT: cpu" in out and device.GOLDEN in out


def test_auto_says_what_it_tried(capsys):
    assert main(["selftest", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["chosen"] in ("cuda", "cpu") and answer["devices"][-1]["device"] == "cpu64"
    assert all(row["exact"] for row in answer["devices"] if row["device"].startswith("cpu"))


def test_a_device_that_is_not_there_or_not_exact(capsys, monkeypatch):
    for name in ("abacus", "cuda:99"):
        assert main(["selftest", "--device", name]) == 1
        out, err = capsys.readouterr()
        assert "refused" in out and err.startswith("ponas: No device") and "Traceback" not in err
    monkeypatch.setattr(device, "GOLDEN", "00" * 32)
    assert main(["selftest", "--device", "cpu", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["chosen"] is None and "golden training" in answer["devices"][0]["reason"]
