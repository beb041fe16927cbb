"""A disk that is full: the node stops with a reason, and what was written before is there."""

import os
import random
import subprocess
import sys
from pathlib import Path

import plyvel

from chain.chain import Chain
from chain.failures import translate
from chain.store import Store
from tests.chain.rules import NETWORK, TestRules, mint

ROOT = Path(__file__).resolve().parents[2]


def fill(path, limit):
    """Run the child until its files have `limit` bytes; gives the lines it printed, split."""
    command = [sys.executable, "-m", "tests.chain.full_disk_child", str(path), str(limit)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    return [line.split() for line in done.stdout.splitlines()]


def test_a_write_that_does_not_fit(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(4):
        path = tmp_path / str(number)
        *reached, first, second, served = fill(path, dice.randrange(20_000, 60_000))
        assert len(reached) > 1
        assert first[0] == second[0] == "refused", "nothing may be written behind half a record"
        assert served[:3] == ["served", *reached[-1]], "what was there can still be read"
        assert served[3] == "0" and len(served) == 5, "damage was found, or the failure not told once"
        with Store(path, NETWORK) as store:
            chain = Chain(store, TestRules())
            assert [str(chain.height), chain.tip.id.hex()] == reached[-1]
            assert chain.verify() == []
            chain.add_block(mint(chain, chain.tip.slot + 1))
        with Store(path, NETWORK) as store:
            assert Chain(store, TestRules()).height == int(reached[-1][0]) + 1


def test_words_for_a_full_disk(tmp_path):
    error = translate(tmp_path, plyvel.IOError(b"IO error: 000012.log: No space left on device"))
    assert error.code == "disk_full" and "Free some space" in error.remedy and "intact" in error.remedy
