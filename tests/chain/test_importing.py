"""Import of many blocks: what stays when one is at fault, with and without workers."""

import dataclasses
import os
import signal

import pytest

from chain import importing, layout
from chain.chain import Chain
from chain.errors import BadBlock, BadEncoding, BadSignature, Missing, UnknownParent
from chain.importing import Importer, import_blocks
from chain.keys import PrivateKey
from chain.store import Store
from chain.types import Block, CoinbaseBody, Kind, sign_transaction
from chain.verifying import JOB, Verifier
from tests.chain.builder import remint
from tests.chain.rules import MINTERS, NETWORK, PARAMETERS, USERS, TestRules, mint, transfer

COUNT = 20


@pytest.fixture
def blocks(tmp_path):
    """Blocks of three transfers each, and the chain that they make."""
    with Store(tmp_path / "source", NETWORK) as store:
        chain = Chain(store, TestRules())
        for i in range(COUNT):
            pays = [transfer(user, i, USERS[0].address, 5) for user in USERS[:3]]
            chain.add_block(mint(chain, i + 1, *pays))
        yield [chain.block_at(height) for height in range(COUNT + 1)]


def raws(blocks):
    return [block.raw for block in blocks]


@pytest.mark.parametrize("workers", [0, 1])
def test_import_gives_the_same_chain(chain, blocks, workers):
    heights = []
    assert import_blocks(chain, raws(blocks), workers, heights.append) == COUNT
    assert chain.tip == blocks[-1].header and heights[-1] == COUNT
    assert chain.verify() == []
    assert import_blocks(chain, raws(blocks), workers) == 0


def test_import_keeps_the_undo_records_that_single_blocks_keep(tmp_path, blocks):
    rules = TestRules(parameters=dataclasses.replace(PARAMETERS, max_rollback=3))
    kept = []
    for name, most in (("many", COUNT), ("one", 1)):
        with Store(tmp_path / name, NETWORK) as store:
            chain = Chain(store, rules)
            for start in range(1, COUNT + 1, most):
                import_blocks(chain, raws(blocks[start : start + most]))
            kept.append(dict(store.raw_iterate(layout.UNDO)))
    assert kept[0] == kept[1] and len(kept[0]) < COUNT


def test_import_goes_on_where_another_ended(chain, blocks):
    assert import_blocks(chain, raws(blocks[:8])) == 7
    assert import_blocks(chain, raws(blocks)) == COUNT - 7
    assert chain.tip == blocks[-1].header


def forged(block):
    """`block` with a transfer whose signature does not verify."""
    bad = dataclasses.replace(block.transactions[2], signature=bytes(64))
    return remint(block, (*block.transactions[:2], bad, *block.transactions[3:]))


def unsigned(block):
    return Block(dataclasses.replace(block.header, signature=bytes(64)), block.transactions)


def wrong_root(block):
    return remint(block, block.transactions, state_root=bytes(32))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("spoil", "error"), [(forged, BadSignature), (unsigned, BadSignature), (wrong_root, BadBlock)])
def test_what_comes_before_a_fault_stays(chain, blocks, workers, spoil, error):
    offered = [*blocks[:12], spoil(blocks[12]), *blocks[13:]]
    with pytest.raises(error):
        import_blocks(chain, raws(offered), workers)
    assert chain.tip == blocks[11].header and chain.verify() == []


def test_garbage_ends_the_import_after_what_came_before(chain, blocks):
    with pytest.raises(BadEncoding):
        import_blocks(chain, [*raws(blocks[:5]), b"\x93", *raws(blocks[5:])])
    assert chain.tip == blocks[4].header


def test_a_gap_is_refused(chain, blocks):
    with pytest.raises(UnknownParent):
        import_blocks(chain, raws([*blocks[:5], *blocks[6:]]))
    assert chain.tip == blocks[4].header


def test_a_longer_branch_is_followed(chain, builder, blocks):
    header, other = builder.genesis, []
    for slot in range(1, 4):
        other.append(builder.mint(header, slot, []))
        header = other[-1].header
    import_blocks(chain, raws(other))
    assert chain.tip == header
    import_blocks(chain, raws(blocks))
    assert chain.tip == blocks[-1].header and chain.verify() == []


def test_missing_facts_end_the_import(chain, blocks, builder):
    body = CoinbaseBody(7, ())
    builder.rules.known.add(body.encode())
    publish = sign_transaction(USERS[3], NETWORK, Kind.PUBLISH, 0, 500, body)
    first = builder.mint(builder.genesis, 1, [])
    second = builder.mint(first.header, 2, [publish])
    builder.rules.known.clear()
    with pytest.raises(Missing):
        import_blocks(chain, raws([first, second]))
    assert chain.tip == first.header
    builder.rules.known.add(body.encode())
    assert import_blocks(chain, raws([first, second])) == 1


def test_facts_are_established_on_the_way(chain, builder):
    """Every block needs a fact; what is read ahead stays, and the source is read once."""
    header, blocks, bodies = builder.genesis, [], []
    for number in range(10):
        bodies.append(CoinbaseBody(number, ()).encode())
        builder.rules.known.add(bodies[-1])
        publish = sign_transaction(USERS[3], NETWORK, Kind.PUBLISH, number, 500, CoinbaseBody(number, ()))
        blocks.append(builder.mint(header, number + 1, [publish]))
        header = blocks[-1].header
    chain.rules.known.clear()
    asked = []

    def establish(missing):
        asked.append(chain.height)
        chain.rules.known.add(bodies[chain.height])

    importer = Importer(chain, establish=establish)
    importer.run(iter(raws(blocks)))
    assert (chain.tip, importer.added, asked) == (header, 10, list(range(10)))


def few_to_a_write(monkeypatch):
    monkeypatch.setattr(importing, "_BATCH_BLOCKS", 2)


@pytest.mark.parametrize("at", range(1, COUNT))
@pytest.mark.parametrize("spoil", [forged, wrong_root])
def test_a_fault_in_any_batch_is_told_as_it_is(chain, blocks, monkeypatch, spoil, at):
    few_to_a_write(monkeypatch)
    offered = [*blocks[:at], spoil(blocks[at]), *blocks[at + 1 :]]
    importer = Importer(chain)
    with pytest.raises((BadSignature, BadBlock)):
        importer.run(raws(offered))
    assert chain.tip == blocks[at - 1].header and importer.added == at - 1
    assert importer.refused == offered[at]


def test_a_wrong_height_leaves_what_came_before(chain, blocks):
    wrong = remint(blocks[9], blocks[9].transactions, height=77)
    with pytest.raises(BadBlock, match="height 77"):
        import_blocks(chain, raws([*blocks[:9], wrong]))
    assert chain.tip == blocks[8].header


def test_a_source_that_fails_loses_nothing_before_it(chain, blocks):
    def source():
        yield from raws(blocks[:7])
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        import_blocks(chain, source())
    assert chain.tip == blocks[6].header


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_verifier_finds_the_bad_item(workers):
    key, message = PrivateKey(b"\1" * 32), bytes(32)
    good = (key.public, key.sign(message), message)
    bad = (key.public, MINTERS[0].sign(message), message)
    with Verifier(workers) as verifier:
        first = verifier.submit([good] * (2 * JOB + 1))
        second = verifier.submit([good] * JOB + [bad])
        third = verifier.submit([good])
        verifier.complete(first)
        with pytest.raises(BadSignature):
            verifier.complete(second)
        verifier.complete(third)
        verifier.complete(verifier.submit([]))


@pytest.mark.parametrize("when", ["before", "between"])
def test_jobs_of_a_worker_that_is_gone_are_done_here(when):
    key, message = PrivateKey(b"\1" * 32), bytes(32)
    good = (key.public, key.sign(message), message)
    bad = (key.public, MINTERS[0].sign(message), message)
    with Verifier(2) as verifier:
        if when == "before":
            verifier._workers[0]._process.kill()
            verifier._workers[0]._process.join()
        first = verifier.submit([good] * (20 * JOB))
        second = verifier.submit([bad])
        for worker in tuple(verifier._workers):
            worker._process.kill()
            worker._process.join()
        verifier.complete(first)
        with pytest.raises(BadSignature):
            verifier.complete(second)
        assert not verifier._workers


def test_nobody_waits_for_a_worker_that_is_slow():
    key, message = PrivateKey(b"\1" * 32), bytes(32)
    good = (key.public, key.sign(message), message)
    bad = (key.public, MINTERS[0].sign(message), message)
    with Verifier(1) as verifier:
        process = verifier._workers[0]._process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            first = verifier.submit([good] * (3 * JOB))
            second = verifier.submit([bad])
            verifier.complete(first)
            with pytest.raises(BadSignature):
                verifier.complete(second)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        third = verifier.submit([good] * JOB)
        verifier.complete(third)
        with pytest.raises(BadSignature):
            verifier.complete(second)
