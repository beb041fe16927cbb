"""The ledger with many accounts: memory, proofs and the cost of a transfer, each in a process of its own."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import plyvel

from bench.ledger_world import World, read_blocks, write_blocks
from bench.machine import memory
from chain.accounts import ACCOUNT
from chain.importing import import_blocks
from chain.leveldb import compact
from chain.tree import prove, verify_proof

_SENDERS = 10_000
_BLOCKS = 100
_PER_BLOCK = 1000
_PROOFS = 2000


def figures(path: Path, accounts: int) -> dict[str, object]:
    """Of a ledger with `accounts` accounts, and its cost per transfer over that of one with 10,000."""
    small, large = (_measured(path / str(count), count) for count in (_SENDERS, accounts))
    return {
        "accounts": accounts,
        "proof_us": large["proof_us"],
        "rss_mb": large["rss_mb"],
        "transfer_cost_ratio": round(large["transfer_us"] / small["transfer_us"], 2),
        "transfer_us_processor": [small["transfer_us"], large["transfer_us"]],
        "accounts_made_per_second": large["accounts_made_per_second"],
    }


def _measured(path: Path, accounts: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in ("build", "measure"):
        command = [sys.executable, "-m", "bench.ledger_large", step, str(path), str(accounts)]
        found |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return found


def build(path: Path, accounts: int) -> dict[str, float]:
    """Make the database at `path`/db and the file of blocks that the measurement imports."""
    world = World(accounts, _SENDERS)
    path.mkdir()
    chain = world.open(path / "db")
    started = time.perf_counter()
    world.fund(chain)
    seconds = time.perf_counter() - started
    chain.store.close()
    # What the making of the accounts left to be done is not measured.
    with plyvel.DB(str(path / "db"), bloom_filter_bits=10) as database:
        compact(database)
    shutil.copytree(path / "db", path / "copy")
    chain = world.open(path / "copy")
    write_blocks(path / "blocks", (world.mint(chain, world.transfers(_PER_BLOCK)) for _ in range(_BLOCKS)))
    chain.store.close()
    return {"accounts_made_per_second": round(accounts / seconds)}


def measure(path: Path, accounts: int) -> dict[str, float]:
    """Import the blocks, then prove accounts drawn at random."""
    world = World(accounts, 0)
    chain = world.open(path / "db")
    started = time.process_time()
    import_blocks(chain, read_blocks(path / "blocks"))
    transfer = (time.process_time() - started) / (_BLOCKS * _PER_BLOCK)
    draw, times = random.Random(3), list[float]()
    for _ in range(_PROOFS):
        key = ACCOUNT + world.address(draw.randrange(accounts))
        started = time.perf_counter()
        value, proof = chain.state.get(key), prove(chain.store.nodes, key)
        times.append(time.perf_counter() - started)
        if not verify_proof(chain.tip.state_root, key, value, proof):
            raise RuntimeError("a proof does not verify")
    chain.store.close()
    return {
        "transfer_us": round(transfer * 1e6, 1),
        "proof_us": round(median(times) * 1e6, 1),
        "rss_mb": round(memory("VmHWM") / 2**20),
    }


if __name__ == "__main__":
    print(json.dumps({"build": build, "measure": measure}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
