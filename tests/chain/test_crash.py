"""SIGKILL at random moments: the database opens, its tip is whole, and nothing that was acknowledged is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chain.chain import Chain
from chain.store import Store
from tests.chain.rules import NETWORK, TestRules

ROOT = Path(__file__).resolve().parents[2]


def kill_while_writing(path, delay):
    """Run the child on `path`, kill it `delay` seconds after it is up; returns the last height and id it reported."""
    command = [sys.executable, "-m", "tests.chain.crash_child", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    first = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    lines = [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
    height, tip = lines[-1].split()
    return int(height), bytes.fromhex(tip)


def crash(path, kills, seed):
    print(f"seed {seed}")
    dice = random.Random(seed)
    reached = 0
    for _ in range(kills):
        height, tip = kill_while_writing(path, dice.uniform(0, 0.25))
        with Store(path, NETWORK) as store:
            chain = Chain(store, TestRules())
            assert chain.verify() == []
            # Every change of tip adds height, so at the reported height there is the reported block.
            assert chain.height > height or (chain.height, chain.tip.id) == (height, tip)
            reached = max(reached, chain.height)
    assert reached > kills


def test_kills(tmp_path):
    crash(tmp_path / "db", 10, random.randrange(2**32))


@pytest.mark.long
def test_many_kills(tmp_path):
    crash(tmp_path / "db", 500, random.randrange(2**32))
