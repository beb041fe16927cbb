"""`kill -9` of any node or miner in any phase: it continues and catches up; nothing is lost or paid twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ponas_node.testnet.layout import EVERYBODY, MEMBERS, POOL

pytestmark = pytest.mark.long
EPOCHS = 4


def pid_of(root: Path, name: str) -> int | None:
    """The participant's main process: the one whose command line names its data directory."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"ponas_node.cli.main" in command and str(root / name).encode() in command:
                return int(entry.name)
    return None


@pytest.mark.timeout(1200)
def test_kills_in_every_phase(tmp_path: Path) -> None:
    seed = int(os.environ.get("PONAS_SEED", random.randrange(2**32)))
    print(f"seed {seed}: replay with PONAS_SEED={seed}")
    rng = random.Random(seed)
    root, report = tmp_path / "net", tmp_path / "report.json"
    command = [sys.executable, "-m", "ponas_node.cli.main", "testnet", "--data", str(root), "--port", "0"]
    process = subprocess.Popen([*command, "--epochs", str(EPOCHS), "--json", str(report)], stdout=subprocess.PIPE)
    killed: dict[str, int] = dict.fromkeys(EVERYBODY, 0)
    try:
        time.sleep(15)
        while process.poll() is None:
            time.sleep(rng.uniform(5, 20))
            least = min(killed.values())
            name = rng.choice([name for name in EVERYBODY if killed[name] == least])
            pid = pid_of(root, name)
            if pid is not None and process.poll() is None:
                os.kill(pid, signal.SIGKILL)
                killed[name] += 1
    finally:
        process.terminate()
        process.wait(60)
    assert report.exists(), f"the testnet wrote no report after kills {killed}"
    outcome = json.loads(report.read_text())
    print(json.dumps({"killed": killed, "restarts": outcome["restarts"], "accuracy": outcome["accuracy_by_epoch"]}))
    assert outcome["problems"] == []
    assert process.returncode == 0
    assert all(killed.values()), f"not everybody was killed: {killed}"
    check_acknowledged_shares(root)


def check_acknowledged_shares(root: Path) -> None:
    """Every share that a member was told is accepted stands in the pool's ledger, once."""
    from chain.store import Store
    from consensus.genesis import Genesis
    from pool.ledger import Ledger
    from pool.records import ShareEntry
    from pool.storage import NamespaceStorage

    genesis = Genesis.from_json((root / "genesis.json").read_text())
    with Store(root / POOL / "db", genesis.network, create=False) as store:
        entries = Ledger(NamespaceStorage(store.namespace(b"pool"))).replay()
        credited = [entry.signed.share.id.hex()[:12] for _, entry in entries if isinstance(entry, ShareEntry)]
    assert len(set(credited)) == len(credited), "a share was credited twice"
    told: set[str] = set()
    for name in MEMBERS:
        told |= set(re.findall(r"share ([0-9a-f]{12}) accepted", (root / "logs" / f"{name}.log").read_text()))
    assert told, "no member was told of an accepted share"
    assert told <= set(credited), f"acknowledged shares are lost: {told - set(credited)}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_launcher(tmp_path: Path, number: signal.Signals) -> None:
    """A closed terminal, a stop, Ctrl-C, and even a kill of the launcher leave nothing behind."""
    root = tmp_path / "net"
    command = [sys.executable, "-m", "ponas_node.cli.main", "testnet", "--data", str(root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait(lambda: all(pid_of(root, name) for name in EVERYBODY))
    process.send_signal(number)
    process.wait(60)
    wait(lambda: not any(pid_of(root, name) for name in EVERYBODY))


def wait(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)
