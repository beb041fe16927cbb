"""Files that `ponas db` reads, changed in every way: BadFile, or what was written."""

import hashlib

import pytest

from chain.chain import Chain
from chain.export import ChainFile, export_chain
from chain.frames import BadFile, FrameFile, writing
from chain.snapshot import restore_snapshot, write_snapshot
from chain.store import Store
from tests.chain.rules import NETWORK, USERS, TestRules, mint, transfer
from tests.fuzz.campaign import campaign
from tests.fuzz.inputs import mutated

_DIGEST = 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with an exported chain and a snapshot of its state, and the chain's tip."""
    folder = tmp_path_factory.mktemp("files")
    with Store(folder / "db", NETWORK, durable=False) as store:
        chain = Chain(store, TestRules())
        for number in range(5):
            chain.add_block(mint(chain, number + 1, transfer(USERS[0], number, USERS[1].address, 7)))
        export_chain(store, chain.height, folder / "chain", lambda *_: None)
        write_snapshot(store, chain.tip, chain.height, folder / "state", lambda *_: None)
        return folder, chain.tip


def changed_file(dice, raw, frames, path, kind):
    """Write a changed file: any bytes; any bytes under a digest that fits; or changed items in a sound file."""
    how = dice.randrange(3)
    if how == 2:
        items = list(frames)
        at = dice.randrange(len(items))
        items[at : at + 1] = dice.choice(([], [items[at]] * 2, [mutated(dice, items[at]) or b"\0"]))
        with writing(path, kind, NETWORK) as file:
            for item in items:
                file.write(item)
        return
    data = mutated(dice, raw) if how == 0 else mutated(dice, raw[:-_DIGEST])
    path.write_bytes(data + hashlib.sha256(data).digest() if how else data)


def fuzz_chain_files(folder, inputs):
    raw = (folder / "chain").read_bytes()
    frames = list(FrameFile(folder / "chain", b"chain", NETWORK))
    path, again = folder / "changed", folder / "again"
    counts = {"read": 0, "refused": 0}

    def trial(dice, tried):
        changed_file(dice, raw, frames, path, b"chain")
        tried[:] = [path.read_bytes()]
        try:
            file = ChainFile(path, NETWORK)
        except BadFile as error:
            assert str(path) in str(error)
            counts["refused"] += 1
            return
        counts["read"] += 1
        with writing(again, b"chain", NETWORK) as copy:
            for frame in file._file:
                copy.write(frame)
        assert again.read_bytes() == tried[0]

    campaign("chain files", inputs, trial)
    print(f"chain files: {counts}")
    assert counts["read"] > inputs // 100 and counts["refused"] > inputs // 2


def fuzz_snapshots(folder, tip, inputs):
    """Whatever is restored is the state after the trusted block; whatever is refused leaves nothing behind."""
    raw = (folder / "state").read_bytes()
    frames = list(FrameFile(folder / "state", b"state", NETWORK))
    with Store(folder / "db", NETWORK) as store:
        state = dict(store.state.items())
    path, target = folder / "changed", folder / "restored"
    counts = {"restored": 0, "refused": 0}

    def trial(dice, tried):
        changed_file(dice, raw, frames, path, b"state")
        tried[:] = [path.read_bytes()]
        try:
            restore_snapshot(path, TestRules(), tip.id, target, lambda *_: None)
        except BadFile as error:
            assert str(path) in str(error)
            assert not target.exists() and not target.with_name("restored.restoring").exists()
            counts["refused"] += 1
            return
        with Store(target, NETWORK) as store:
            assert dict(store.state.items()) == state and Chain(store, TestRules()).tip == tip
        for name in target.iterdir():
            name.unlink()
        target.rmdir()
        counts["restored"] += 1

    campaign("snapshots", inputs, trial)
    print(f"snapshots: {counts}")
    assert counts["refused"] > inputs // 2


def test_chain_files(files):
    fuzz_chain_files(files[0], 1_000)


def test_snapshots(files):
    fuzz_snapshots(*files, 100)


@pytest.mark.long
def test_many_files(files):
    fuzz_chain_files(files[0], 10_000)
    fuzz_snapshots(*files, 2_000)
