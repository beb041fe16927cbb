"""The containerised testnet: comes up healthy, mines, and a killed node catches up. Needs a Docker engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTS = {"node1": 18741, "node2": 18742, "node3": 18743, "node4": 18744, "pool": 18745, "solo": 18746}
LIMIT = 600.0

pytestmark = pytest.mark.long


def compose(*arguments: str) -> str:
    command = ["docker-compose", "--project-name", "ponas-test", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def get(name: str, path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[name]}{path}", timeout=5) as answer:
        return json.load(answer)


def until(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, f"waited {LIMIT:.0f} s for: {what}\n{compose('ps')}"
        time.sleep(2)


@pytest.fixture
def containers() -> Iterator[None]:
    if shutil.which("docker-compose") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine runs here")
    compose("down", "--volumes")
    compose("build", "network")
    compose("up", "--detach")
    try:
        yield
    finally:
        compose("down", "--volumes")


def seats(name: str) -> set[str]:
    return {seat["owner"] for seat in get(name, "/v1/seats")["seats"] if seat["result"]}


@pytest.mark.timeout(1800)
def test_testnet_in_containers(containers: None) -> None:
    until("everybody is healthy", lambda: compose("ps").count("(healthy)") == 8)
    assert "root" not in compose("exec", "-T", "node1", "whoami")
    for name, port in PORTS.items():
        assert compose("port", name, "8645").strip() == f"127.0.0.1:{port}"
    until("pool and solo miner hold seats", lambda: len(seats("node1")) == 2)
    subprocess.run(["docker", "kill", "--signal", "KILL", "ponas-test_node3_1"], check=True, capture_output=True)
    height = get("node1", "/v1/status")["height"]
    until("the others go on", lambda: get("node1", "/v1/status")["height"] > height + 10)
    compose("up", "--detach", "node3")
    until("the killed node catches up", lambda: get("node3", "/v1/status")["height"] >= height + 10)
    common = min(get(name, "/v1/status")["height"] for name in PORTS) - 2
    assert len({get(name, f"/v1/blocks/{common}")["state_root"] for name in PORTS}) == 1
    pool = get("pool", "/v1/pool")
    assert len(pool["member_list"]) == 2 and all(member["shares"] for member in pool["member_list"])
    until("the pool's members are paid", lambda: all(paid(member["address"]) for member in pool["member_list"]))


def paid(address: str) -> int:
    account = get("node1", f"/v1/accounts/{address}")
    return int(account["balance"]) + int(account["immature"])
