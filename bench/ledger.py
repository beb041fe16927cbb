"""The ledger: import, empty blocks, block building, mempool, reorganisations, and what a million accounts cost."""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bench import ledger_large
from bench.ledger_world import World, read_blocks, write_blocks
from chain.chain import Chain
from chain.collector import collect_less
from chain.importing import import_blocks
from chain.keys import PrivateKey
from chain.mempool import Mempool
from chain.rules import BlockContext
from chain.types import Block, Transaction

_PER_BLOCK = 1000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, and one repetition")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Medians. Names that end in `processor` compare processor time, which other work on the machine moves less."""
    collect_less()  # as a node does
    scale, repetitions = (10, 1) if options.quick else (1, 3)
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        figures |= _imports(path, 200 // scale, repetitions)
        figures |= _empty(path, 20_000 // scale)
        figures |= _pool(path, 50_000 // scale, repetitions)
        figures |= _reorgs(path, 100 // scale)
        figures |= ledger_large.figures(path, 1_000_000 // scale)
    return figures


class Stopwatch:
    """Wall and processor seconds of a call."""

    def __init__(self, work: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        self.result = work()
        self.wall, self.processor = time.perf_counter() - wall, time.process_time() - processor


def raw_rate(count: int = 4000) -> Stopwatch:
    """Seconds for one Ed25519 verification by the cryptography package, its key loaded."""
    key, message = PrivateKey(bytes(32)), bytes(32)
    public, signature = Ed25519PublicKey.from_public_bytes(key.public), key.sign(message)

    def verify() -> None:
        for _ in range(count):
            public.verify(signature, message)

    watch = Stopwatch(verify)
    watch.wall /= count
    watch.processor /= count
    return watch


def against_signatures(work: Callable[[], object], count: int) -> tuple[float, float, float]:
    """`count` items of `work` a second over the rate of raw signatures, by wall and processor; seconds a item."""
    before, watch, after = raw_rate(), Stopwatch(work), raw_rate()
    wall, processor = (before.wall + after.wall) / 2, (before.processor + after.processor) / 2
    return wall * count / watch.wall, processor * count / watch.processor, watch.wall / count


def _imports(path: Path, count: int, repetitions: int) -> dict[str, object]:
    world = World(10_000, 10_000)
    source = world.open(path / "source")
    first = world.fund(source)
    blocks = [world.mint(source, world.transfers(_PER_BLOCK)) for _ in range(count)]
    write_blocks(path / "blocks", blocks)
    found: dict[int, list[tuple[float, float, float]]] = {0: [], 1: []}
    for repetition, workers in itertools.product(range(repetitions), found):
        chain = world.open(path / f"import-{repetition}-{workers}")
        import_blocks(chain, [block.raw for block in first])
        work = _import(chain, path / "blocks", workers)
        found[workers].append(against_signatures(work, count * _PER_BLOCK))
        if chain.tip != source.tip:
            raise RuntimeError("the import did not lead to the same chain")
        chain.store.close()
    source.store.close()
    (one, processor, seconds), (two, _, seconds_two) = (
        [median(column) for column in zip(*rows, strict=True)] for rows in found.values()
    )
    return {
        "import_vs_signatures": {"one_process": round(one, 3), "two_processes": round(two, 3)},
        "import_vs_signatures_processor": round(processor, 3),
        "import_transfers_per_second": {"one_process": round(1 / seconds), "two_processes": round(1 / seconds_two)},
        "signatures_per_second": round(1 / raw_rate().wall),
    }


def _import(chain: Chain, path: Path, workers: int) -> Callable[[], object]:
    return lambda: import_blocks(chain, read_blocks(path), workers)


def _empty(path: Path, count: int) -> dict[str, object]:
    world = World(0, 0)
    source = world.open(path / "empty-source")
    write_blocks(path / "empty", (world.mint(source, ()) for _ in range(count)))
    source.store.close()
    chain = world.open(path / "empty-import")
    watch = Stopwatch(_import(chain, path / "empty", 0))
    chain.store.close()
    return {
        "empty_blocks_per_second": round(count / watch.wall),
        "empty_blocks_per_second_processor": round(count / watch.processor),
    }


def _pool(path: Path, count: int, repetitions: int) -> dict[str, object]:
    """Admission from bytes, and a block of 1,000 transfers with its state root and signature."""
    world = World(10_000, 10_000)
    chain = world.open(path / "pool")
    world.fund(chain)
    draw = random.Random(1)
    senders = [number % len(world.keys) for number in range(count)]
    raws = [world.transfer(sender, 2_000 + draw.randrange(10_000)).raw for sender in senders]
    slot = chain.tip.slot + 1
    context = BlockContext(chain.height + 1, slot, chain.tip.id, world.rules.leader(chain.state, chain.tip, slot))
    pool = Mempool(world.rules)

    def admit() -> None:
        for raw in raws:
            pool.add(Transaction.decode(raw), chain.state, context)

    wall, processor, _ = against_signatures(admit, count)
    built = []
    for _ in range(1 + 4 * repetitions):
        watch = Stopwatch(lambda: world.draft(chain, itertools.islice(pool.best_first(), _PER_BLOCK)))
        built.append(watch)
    block = built[0].result
    if not isinstance(block, Block) or len(block.transactions) != _PER_BLOCK + 1:
        raise RuntimeError("the block does not hold 1,000 transfers")
    outcome = chain.add_block(block)
    slot = chain.tip.slot + 1
    context = BlockContext(chain.height + 1, slot, chain.tip.id, world.rules.leader(chain.state, chain.tip, slot))
    follow = Stopwatch(lambda: pool.on_tip(outcome, chain.state, context))
    chain.store.close()
    return {
        "mempool_admit_vs_signatures": round(wall, 3),
        "mempool_admit_vs_signatures_processor": round(processor, 3),
        "build_block_ms": round(1000 * median(watch.wall for watch in built), 1),
        "build_block_ms_processor": round(1000 * median(watch.processor for watch in built), 1),
        "mempool_transactions": count,
        "mempool_new_tip_ms_processor": round(1000 * follow.processor, 1),
    }


def _reorgs(path: Path, count: int) -> dict[str, object]:
    """From a branch of `count` blocks to another, and back when the first has become the longer one again."""
    world = World(10_000, 10_000)
    one, other, target = (world.open(path / f"reorg-{name}") for name in ("one", "other", "target"))
    first = [block.raw for block in world.fund(one)]
    import_blocks(other, first)
    import_blocks(target, first)
    batches = [world.transfers(200) for _ in range(count)]
    branch = [world.mint(one, batch) for batch in [*batches, (), ()]]
    rival = [world.mint(other, batch, later=2 if number == 0 else 1) for number, batch in enumerate([*batches, ()])]
    imported = Stopwatch(lambda: import_blocks(target, [block.raw for block in branch[:count]]))

    def reorganise() -> list[int]:
        depths = []
        for block in [*rival, *branch[count:]]:
            depths.append(len(target.add_block(Block.decode(block.raw)).disconnected))
        return [depth for depth in depths if depth]

    turned = Stopwatch(reorganise)
    if turned.result != [count, count + 1] or target.tip != one.tip:
        raise RuntimeError("the chain was not reorganised as planned")
    for chain in (one, other, target):
        chain.store.close()
    connected = len(rival) + len(branch)
    return {
        "reorg_blocks_per_second": round(connected / turned.wall, 1),
        "reorg_vs_import": round(connected / turned.wall / (count / imported.wall), 2),
        "reorg_vs_import_processor": round(connected / turned.processor / (count / imported.processor), 2),
    }
