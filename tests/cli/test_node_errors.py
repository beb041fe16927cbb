"""What can go wrong when a node starts: each is one line that says what to do, and nothing is lost."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from chain.keys import PrivateKey
from chain.store import Store
from ponas_node.cli.main import main
from ponas_node.testnet.genesis import testnet_genesis as make_genesis

KEY = PrivateKey(bytes(32))


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_text(make_genesis(int(time.time() * 1000), (KEY.public,), (KEY.address,)).to_json())
    return path


@pytest.fixture
def fail(capsys):
    def go(*arguments: object, code: int = 1) -> str:
        """Run `ponas node`, which must fail; gives the line that it printed last."""
        assert main(["node", *(str(argument) for argument in arguments)]) == code
        out, err = capsys.readouterr()
        line = err.splitlines()[-1]
        assert line.startswith("ponas: ") and "Traceback" not in err and out == ""
        return line

    return go


def test_genesis(fail, genesis, tmp_path):
    assert "--genesis" in fail("--data", "d", code=2)
    assert "cannot be read" in fail("--genesis", tmp_path / "none")
    for content in (b"", b"{", b"[]", b"{}", b"\xff\xfe", genesis.read_bytes()[:-9], b'{"name": 1}'):
        genesis.write_bytes(content)
        assert "genesis file" in fail("--genesis", genesis).lower()
    assert not Path("d").exists()


def test_data_directory_is_a_file(fail, genesis):
    Path("d").write_text("precious")
    assert "choose another path" in fail("--genesis", genesis, "--data", "d", "--p2p-port", 0, "--api-port", 0)
    assert Path("d").read_text() == "precious"


def test_split_keys(fail, genesis, tmp_path):
    assert "needs --wallet" in fail("--genesis", genesis, "--split-keys", "none", code=2)
    assert "cannot be read" in fail("--genesis", genesis, "--wallet", "w", "--split-keys", "none", code=2)


def test_port_in_use(fail, genesis):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = fail("--genesis", genesis, "--data", "d", "--p2p-port", 0, "--api-port", port, "--prover-delay", -1)
        assert "in use" in message and "--api-port" in message and str(port) in message
        message = fail("--genesis", genesis, "--data", "d", "--p2p-port", port, "--api-port", 0, "--prover-delay", -1)
        assert "in use" in message and "--p2p-port" in message and str(port) in message


def test_database_in_use_of_another_network_or_damaged(fail, genesis):
    network = bytes(32)
    with Store("d/db", network):
        assert "is in use by" in fail("--genesis", genesis, "--data", "d")
    assert "belongs to network" in fail("--genesis", genesis, "--data", "d")
    with Store("d/db", network) as store:
        assert store.network == network
    Path("d/db/CURRENT").write_bytes(b"nonsense")
    assert "damaged" in fail("--genesis", genesis, "--data", "d")


def test_wallet(fail, genesis):
    node = ["--genesis", genesis, "--data", "d"]
    assert "ponas wallet new" in fail(*node, "--wallet", "none.json")
    assert "--wallet" in fail(*node, "--pool", code=2)
    assert not Path("d").exists()


@pytest.mark.parametrize("number", ["0", "257", "-1", "some"])
def test_slots_are_some_but_not_too_many(number, capsys):
    assert main(["mine", "--pool", "http://127.0.0.1:1", "--wallet", "w.json", "--slots", number]) == 2
    assert f"1 to 256, or auto, not {number}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ([], "--pool URL, or --solo"),
        (["--pool", "127.0.0.1"], "is not a URL"),
        (["--pool", "http://127.0.0.1:1", "--address", "127.0.0.1:2"], "--executor ray"),
        (["--solo", "--executor", "ray"], "trains on this machine"),
        (["--pool", "http://127.0.0.1:1", "--solo"], "--genesis"),
    ],
)
def test_mining_options_that_do_not_go_together(options, hint, capsys):
    assert main(["mine", "--wallet", "w.json", *options]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "0.5", "nan", "inf", "often", "1e7"])
def test_states_are_kept_now_and_then_or_never(seconds, capsys):
    assert main(["mine", "--pool", "http://127.0.0.1:1", "--wallet", "w.json", f"--state-seconds={seconds}"]) == 2
    assert "0, or from 1 to 1000000 seconds" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "kept"), [("0", None), ("60", 60.0)])
def test_a_node_that_mines_for_a_pool_keeps_states_as_it_is_told(genesis, tmp_path, monkeypatch, given, kept):
    started = []
    monkeypatch.setattr("ponas_node.cli.mine.unlock", lambda arguments: KEY)
    monkeypatch.setattr("ponas_node.cli.mine.start", lambda config, *_: started.append(config) or 0)
    options = ["--solo", "--pool", "http://127.0.0.1:1", "--data", str(tmp_path / "d"), "--state-seconds", given]
    assert main(["mine", *options, "--genesis", str(genesis)]) == 0
    assert started[0].state_seconds == kept


def test_checkpoints(fail, genesis):
    assert "--checkpoint" in (line := fail("--genesis", genesis, "--checkpoint", "x", code=2)) and "HEIGHT:HASH" in line
    twice = ("--checkpoint", f"7:{bytes(32).hex()}", "--checkpoint", f"7:{'ab' * 32}")
    assert "two blocks are trusted at height 7" in fail("--genesis", genesis, *twice, code=2)
    wrong = f"0:{bytes(32).hex()}"
    line = fail("--genesis", genesis, "--data", "d", "--checkpoint", wrong)
    assert "has block" in line and bytes(32).hex() in line and "start without it" in line
    assert "has block" in fail("--genesis", genesis, "--data", "d", "--checkpoint", wrong)  # and is not locked
