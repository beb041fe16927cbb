"""What a user can get wrong when starting a node: one clear line, an exit code that is not 0, nothing lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ponas_node.wallet import create_wallet
from tests.network.cluster import small_genesis


@pytest.fixture(scope="module")
def genesis_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genesis") / "genesis.json"
    path.write_text(small_genesis().to_json())
    return path


def ponas(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ponas_node.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def complaint(*arguments: object) -> str:
    """The last line that a failing command prints; there must be no traceback."""
    done = ponas(*arguments)
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def node(genesis: Path, data: Path, *more: object) -> tuple[object, ...]:
    return ("node", "--genesis", genesis, "--data", data, "--p2p-port", 0, "--api-port", 0, "--prover-delay", -1, *more)


@contextlib.contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ponas_node.cli.main", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None and "ready" in process.stdout.readline()
        yield process
    finally:
        process.terminate()
        process.wait(20)


def test_ports_in_use(genesis_file: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = complaint(*node(genesis_file, tmp_path / "a")[:-2], "--p2p-port", port)
        assert str(port) in line and "in use" in line
        line = complaint(*node(genesis_file, tmp_path / "b")[:-2], "--api-port", port)
        assert str(port) in line and "in use" in line


def test_data_directory_in_use_then_of_another_network(genesis_file: Path, tmp_path: Path) -> None:
    with running(*node(genesis_file, tmp_path / "data")) as process:
        assert "in use" in complaint(*node(genesis_file, tmp_path / "data"))
        assert process.poll() is None
    other = tmp_path / "other.json"
    genesis = small_genesis()
    other.write_text(dataclasses.replace(genesis, name="another").to_json())
    assert "network" in complaint(*node(other, tmp_path / "data"))
    with running(*node(genesis_file, tmp_path / "data")):
        time.sleep(0.1)


def test_broken_data_directory(genesis_file: Path, tmp_path: Path) -> None:
    with running(*node(genesis_file, tmp_path / "data")):
        pass
    current = tmp_path / "data" / "db" / "CURRENT"
    current.write_bytes(b"rubbish")
    assert str(tmp_path / "data" / "db") in complaint(*node(genesis_file, tmp_path / "data"))
    assert current.read_bytes() == b"rubbish"
    file = tmp_path / "file"
    file.write_text("not a folder")
    complaint(*node(genesis_file, file))
    assert file.read_text() == "not a folder"


def test_genesis_that_is_missing_or_broken(tmp_path: Path) -> None:
    assert "--genesis" in complaint("node", "--data", tmp_path / "data")
    assert "cannot be read" in complaint(*node(tmp_path / "none.json", tmp_path / "data"))
    path = tmp_path / "genesis.json"
    for text in ("", "[]", "{", '{"name": 3}', small_genesis().to_json().replace('"seats": 8', '"seats": -8')):
        path.write_text(text)
        assert "enesis" in complaint(*node(path, tmp_path / "data"))
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a genesis" in complaint(*node(path, tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_wrong_passphrase_and_pool_without_wallet(genesis_file: Path, tmp_path: Path) -> None:
    wallet, secret = tmp_path / "wallet.json", tmp_path / "secret"
    create_wallet(wallet, "right")
    before = wallet.read_bytes()
    secret.write_text("wrong\n")
    line = complaint(*node(genesis_file, tmp_path / "data", "--wallet", wallet, "--passphrase-file", secret))
    assert "passphrase" in line
    assert "--wallet" in complaint(*node(genesis_file, tmp_path / "data", "--pool"))
    line = complaint("mine", "--pool", "http://127.0.0.1:1", "--wallet", wallet, "--passphrase-file", secret)
    assert "passphrase" in line
    assert "URL" in complaint("mine", "--pool", "127.0.0.1", "--wallet", wallet, "--passphrase-file", secret)
    assert wallet.read_bytes() == before


def test_damaged_node_key(genesis_file: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "node.key").write_text("not a key")
    assert "node.key" in complaint(*node(genesis_file, tmp_path / "data"))
    assert (tmp_path / "data" / "node.key").read_text() == "not a key"


def test_peer_of_another_genesis_is_refused_with_a_reason(genesis_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(dataclasses.replace(small_genesis(), name="another").to_json())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = (*node(genesis_file, tmp_path / "a")[:5], "--p2p-port", port, "--api-port", 0, "--prover-delay", -1)
    with running(*first):
        command = [
            sys.executable,
            "-m",
            "ponas_node.cli.main",
            *map(str, node(other, tmp_path / "b", "--peer", f"127.0.0.1:{port}")),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "genesis" in line and "ours" in line:
                    break
            else:
                pytest.fail("the refusal was not logged")
        finally:
            process.terminate()
            process.wait(20)


def test_testnet_that_runs_already_or_whose_folder_is_broken(tmp_path: Path) -> None:
    assert ponas("testnet", "--prepare", "--data", tmp_path / "net", "--port", 0).returncode == 0
    ports = json.loads((tmp_path / "net" / "ports.json").read_text())
    with socket.create_server(("127.0.0.1", ports["node3"][1])):
        line = complaint("testnet", "--data", tmp_path / "net", "--epochs", 1)
    assert str(ports["node3"][1]) in line and "in use" in line
    genesis = tmp_path / "net" / "genesis.json"
    kept = genesis.read_text()
    genesis.write_text(kept.replace('"challenge_blocks"', '"challenge_slots"'))
    assert "challenge_blocks" in complaint("testnet", "--data", tmp_path / "net")
    genesis.write_text(kept)
    (tmp_path / "net" / "ports.json").write_text("rubbish")
    assert "mend or delete" in complaint("testnet", "--data", tmp_path / "net")
    assert "--epochs" in complaint("testnet", "--json", tmp_path / "report.json")
