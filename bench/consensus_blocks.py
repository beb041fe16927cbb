"""What the check of a full block costs while everything else on the machine is busy, against the length of a slot."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.ledger_world import World
from chain.chain import Chain
from chain.collector import collect_less
from chain.types import MAX_BLOCK_TRANSACTIONS, Block
from ponas_node.testnet.genesis import consensus_parameters

_ACCOUNTS = 10_000
_TRANSFERS = MAX_BLOCK_TRANSACTIONS - 1  # beside the coinbase; of one output each, so they fit


def block_check_ms(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds by the clock that blocks full of transfers take, with every core kept busy.

    That is decoding, form, signatures, rules, state root, and writing to the disk. The signatures of transactions that
    are in the mempool were verified when they came; `block_check_unknown_ms` is of blocks whose transactions came with
    them.
    """
    collect_less()  # as a node does
    count = 10 if options.quick else 40
    with tempfile.TemporaryDirectory() as folder:
        world = World(_ACCOUNTS, _ACCOUNTS)
        source, target = world.open(Path(folder) / "source"), world.open(Path(folder) / "target")
        for block in world.fund(source):
            target.add_block(block)
        blocks = [world.mint(source, world.transfers(_TRANSFERS)) for _ in range(2 * count)]
        with _busy():
            unknown = [_timed(target, block.raw) for block in blocks[:count]]
            target.verified = {transaction.id for block in blocks for transaction in block.transactions[1:]}
            known = [_timed(target, block.raw) for block in blocks[count:]]
        source.store.close()
        target.store.close()
    slot = consensus_parameters(0).slot_milliseconds
    times = _summary(known)
    return {
        "block_check_ms": times,
        "block_check_unknown_ms": _summary(unknown),
        "block_check_part_of_slot": round(times["p95"] / slot, 3),
        "block_bytes": min(len(block.raw) for block in blocks),
        "block_transfers": min(len(block.transactions) for block in blocks) - 1,
        "slot_ms": slot,
    }


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": round(median(times), 1), "p95": round(quantiles(times, n=20)[-1], 1)}


def _timed(chain: Chain, raw: bytes) -> float:
    started = time.perf_counter()
    chain.add_block(Block.decode(raw))
    return (time.perf_counter() - started) * 1000


@contextmanager
def _busy() -> Iterator[None]:
    """One process for each core that does nothing but compute."""
    workers = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _spin() -> None:
    while True:
        pass
