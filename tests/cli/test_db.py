"""`ponas db` on real databases: what it writes can be read again, what is wrong is named, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from chain import accounts, layout
from chain.chain import Chain
from chain.errors import UnknownParent
from chain.export import ChainFile
from chain.frames import MAGIC, FrameFile, writing
from chain.store import Store
from consensus import records, vdf
from consensus.rules import ConsensusRules
from ponas_node.database.feeding import StoredFacts
from tests.cli.conftest import one_line
from tests.consensus.world import World

FACTS = b"facts"


def keep_facts(facts, path, network):
    with Store(path, network) as store, store.namespace(FACTS).batch() as batch:
        for key, answer in facts.answers.items():
            batch.put(key, answer.to_bytes(8, "big", signed=True))


@pytest.fixture
def world(tmp_path):
    """The database of a node after two competitions and some blocks more, closed; in `node`, with its genesis."""
    world = World(tmp_path / "node" / "db", max_tasks=3)
    for _ in range(2):
        finds = {1: [world.find(1, 150), world.find(2, 140)], 2: [world.find(3, 120)]}
        world.competition(finds)
    for _ in range(75):
        world.mint()
    world.store.close()
    (tmp_path / "genesis.json").write_text(world.genesis.to_json())
    keep_facts(world.facts, world.path, world.genesis.network)
    return world


@pytest.fixture
def db(run):
    def go(what, *arguments, data="node", code=0):
        if what in ("import", "verify") and "--workers" not in arguments:
            arguments = (*arguments, "--workers", 0)
        out = run("db", what, *arguments, "--genesis", "genesis.json", "--data", data, "--json", code=code)
        return json.loads(out) if out.startswith("{") else one_line(out)

    return go


def content(path, network, without=(layout.NAMESPACE, layout.UNDO)):
    with Store(path, network, create=False) as store:
        return {key: value for key, value in store.raw_iterate(b"") if key[:1] not in without}


def open_chain(store, world):
    return Chain(store, ConsensusRules(world.genesis, StoredFacts(store)))


def test_stats_compact_and_reindex(db, run, world):
    stats = db("stats")
    assert (stats["height"], stats["tip"]) == (world.chain.height, world.chain.tip.id.hex())
    assert stats["parts"]["blocks"]["entries"] == world.chain.height + 1
    assert stats["parts"]["results by task"]["entries"] == 6 and stats["bytes_on_disk"] > 10_000
    before = content(world.path, world.genesis.network)
    entries = db("reindex")["index_entries"]
    assert entries == sum(stats["parts"][name]["entries"] for name in stats["parts"] if " by " in name)
    with Store(world.path, world.genesis.network) as store:
        keys = [layout.NAMESPACE + b"\4junk%d" % number for number in range(2000)]
        store.write((key, random.Random(key).randbytes(1000)) for key in keys)
        store.write((key, None) for key in keys)
    done = db("compact")
    assert done["bytes_before"] - done["bytes_after"] > 1_900_000, "what was deleted takes no space any more"
    assert content(world.path, world.genesis.network) == before
    assert "tree nodes" in run("db", "stats", "--genesis", "genesis.json", "--data", "node")


def test_verify_of_a_sound_database(db, run, world):
    report = db("verify")
    assert report["ok"] and report["findings"] == [] and report["recomputed"] == world.chain.height
    assert not Path("node/db.verify").exists()
    assert "yes" in run("db", "verify", "--genesis", "genesis.json", "--data", "node")


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        (layout.STATE + accounts.ACCOUNT, "state entry b'acct' "),
        (layout.NODE, "tree node "),
        (layout.BLOCK, "the block at height "),
        (layout.HEADER, "header "),
        (layout.HEIGHT, "height "),
        (layout.UNDO, "the undo record of height "),
        (layout.TRANSACTION, "index entry of transaction "),
        (layout.HISTORY, "index entry of address "),
        (layout.OWNER, "index entry of owner "),
        (layout.LISTED, "entry of the rules' index "),
        (layout.NAMESPACE + b"\x05facts", "facts that the block at height "),
    ],
)
@pytest.mark.parametrize("damage", ["remove", "change", "add"])
def test_verify_names_the_damage(db, world, prefix, named, damage):
    with plyvel.DB(str(world.path)) as raw:
        pairs = list(raw.iterator(prefix=prefix))
        key, value = pairs[len(pairs) // 2]
        if damage == "remove":
            raw.delete(key)
        elif damage == "change":
            raw.put(key, value[:-1] + bytes([value[-1] ^ 1]) if value else b"x")
        else:
            raw.put(key + b"x", value)
    if damage == "add" and prefix in (layout.UNDO, layout.NAMESPACE + b"\x05facts"):
        assert db("verify")["ok"], "what nobody reads does no harm"
        return
    report = db("verify", code=1)
    assert not report["ok"] and report["findings"] and report["remedy"]
    text = "\n".join(report["findings"])
    if damage == "remove" or (damage == "change" and prefix not in (layout.BLOCK, layout.HEIGHT)):
        wanted = "was refused" if prefix[0:1] == layout.NAMESPACE and damage == "change" else named
        assert wanted in text or "breaks a rule" in text, text
        assert key[1:].hex()[-16:] in text or prefix not in (layout.NODE, layout.TRANSACTION), text


def test_verify_tells_all_that_it_found_before_a_file_that_cannot_be_read(db, world, monkeypatch):
    with plyvel.DB(str(world.path)) as raw:
        raw.delete(layout.BLOCK + raw.get(layout.height_key(30)))
    iterate = Store.raw_iterate

    def failing(store, prefix, start=b""):
        if prefix == layout.NODE:
            raise store.damaged("a checksum does not fit")
        return iterate(store, prefix, start)

    monkeypatch.setattr(Store, "raw_iterate", failing)
    text = "\n".join(db("verify", code=1)["findings"])
    assert "the block at height 30 is missing" in text and "a checksum does not fit" in text


def test_facts_are_established_again_by_import_and_verify(db, tmp_path, monkeypatch):
    monkeypatch.setattr("chain.importing._BATCH_BLOCKS", 4)  # blocks are read ahead of the one that lacks facts
    world = World(tmp_path / "node" / "db")
    parameters = world.genesis.consensus
    for _ in range(3):
        world.mint_to(parameters.commit_close + 1)
        epoch = records.current_epoch(world.chain.state)
        output = vdf.prove(epoch.boundary, parameters.vdf_discriminant_bits, parameters.vdf_iterations)
        world.mint(world.beacon(output=output))
    world.mint_to(0)
    world.store.close()
    (tmp_path / "genesis.json").write_text(world.genesis.to_json())
    keep_facts(world.facts, world.path, world.genesis.network)
    db("export", "--out", "chain.ponas")
    assert db("import", "chain.ponas", data="copy")["tip"] == world.chain.tip.id.hex()
    assert db("verify", "--facts", data="copy")["ok"]


def test_verify_with_facts_that_are_not_so(db, world):
    assert db("verify")["ok"]
    report = db("verify", "--facts", code=1)
    assert "breaks" in report["findings"][0] or "refused" in report["findings"][0]
    assert 0 < report["recomputed"] < world.chain.height, "the delay function of this test was made up"


def test_export_and_import(db, run, world):
    network = world.genesis.network
    done = db("export", "--out", "chain.ponas")
    assert done["blocks"] == world.chain.height and done["first_height"] == 1
    again = db("export", "--out", "again.ponas")
    assert Path("chain.ponas").read_bytes() == Path("again.ponas").read_bytes() and again["tip"] == done["tip"]
    keep_facts(world.facts, Path("copy/db"), network)
    taken = db("import", "chain.ponas", "--workers", 1, data="copy")
    assert taken["tip"] == world.chain.tip.id.hex() and taken["added"] == world.chain.height
    assert content("copy/db", network) == content(world.path, network)
    assert db("import", "chain.ponas", data="copy")["added"] == 0
    assert db("verify", "--workers", 1, data="copy")["ok"]
    assert "from 0 to 256" in run("db", "verify", "--workers", "-1", code=2)


def test_an_import_that_was_cut_off_goes_on(db, world):
    db("export", "--out", "chain.ponas")
    facts = dict(world.facts.answers)
    late = dict(list(facts.items())[-2:])
    world.facts.answers = {key: answer for key, answer in facts.items() if key not in late}
    keep_facts(world.facts, Path("copy/db"), world.genesis.network)
    stopped = db("import", "chain.ponas", data="copy", code=1)
    assert "could not be checked" in stopped and "artifact" in stopped
    reached = db("stats", data="copy")["height"]
    assert 20 < reached < world.chain.height
    world.facts.answers = late
    keep_facts(world.facts, Path("copy/db"), world.genesis.network)
    done = db("import", "chain.ponas", data="copy")
    assert done["added"] == world.chain.height - reached and done["tip"] == world.chain.tip.id.hex()


def test_hostile_chain_files(db, world):
    db("export", "--out", "chain.ponas")
    good = Path("chain.ponas").read_bytes()
    network = 20  # where the network id begins
    files = {
        "empty": b"",
        "text": b"hello\n" * 20,
        "cut": good[:-1],
        "half": good[: len(good) // 2],
        "more": good + b"\0",
        "flip": good[:5000] + bytes([good[5000] ^ 1]) + good[5001:],
        "version": good[:8] + (9).to_bytes(4, "big") + good[12:],
        "kind": good[:12] + b"state\0\0\0" + good[20:],
        "network": good[:network] + bytes(32) + good[network + 32 :],
        "huge": good[:52] + b"\xff\xff\xff\xff" + good[56:],
        "head": good[:52],
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
        message = db("import", name, data="fresh", code=1)
        assert name in message and not Path("fresh/db").exists(), "a bad file changes nothing"
    assert "network" in db("import", "network", data="fresh", code=1)
    assert "newer version" in db("import", "version", data="fresh", code=1)
    assert "Check the path" in db("import", "none", data="fresh", code=1)
    db("snapshot", "--out", "state.ponas")
    assert "holds no chain" in db("import", "state.ponas", data="fresh", code=1)
    assert good[:8] == MAGIC


def test_a_file_with_a_block_that_breaks_the_rules(db, world):
    db("export", "--out", "chain.ponas")
    blocks = list(ChainFile(Path("chain.ponas"), world.genesis.network)._file)
    with writing(Path("bad.ponas"), b"chain", world.genesis.network) as file:
        for frame in [*blocks[:6], blocks[6][:-1] + bytes([blocks[6][-1] ^ 1]), *blocks[7:]]:
            file.write(frame)
    message = db("import", "bad.ponas", data="copy", code=1)
    assert "height 6" in message.lower() or "after height 5" in message.lower()
    assert db("stats", data="copy")["height"] == 5 and db("verify", data="copy")["ok"]


def test_snapshot_and_restore(db, world):
    done = db("snapshot", "--out", "state.ponas")
    tip = world.chain.tip
    assert tip.slot - 60 < done["height"] <= tip.height - 40, "a reorganisation of 40 slots cannot reach it"
    Path("light/db.restoring").mkdir(parents=True)  # one that was killed left this behind
    Path("light/db.restoring/CURRENT").write_text("garbage")
    answer = db("restore", "state.ponas", "--block", done["block"], data="light")
    assert (
        not Path("light/db.restoring").exists()
        and answer["height"] == done["height"]
        and "cannot undo" in answer["note"]
    )
    report = db("verify", data="light")
    assert report["ok"] and report["recomputed"] == 0 and "restored" in report["notes"][0]
    with Store("light/db", world.genesis.network) as store, Store(world.path, world.genesis.network) as full:
        source = Chain(full, world.rules)
        light = Chain(store, world.rules)
        assert light.height == done["height"] and light.locator()[-1] == source.genesis.id
        for height in range(light.height + 1, source.height + 1):
            light.add_block(source.block_at(height))
        assert light.tip == source.tip and light.verify() == []
        assert dict(store.state.items()) == dict(full.state.items())
        assert light.block_at(3) is None and light.after([source.genesis.id], 10, 10**6) == []
        assert [b.id for b in light.after(source.locator()[1:2], 10, 10**6)] == [source.tip.id]
        assert light.locator()[0] == source.locator()[0]
    again = db("snapshot", "--out", "again.ponas", "--height", done["height"], data="light")
    assert again["entries"] == done["entries"]
    assert Path("again.ponas").read_bytes() == Path("state.ponas").read_bytes()
    exported = db("export", "--out", "tail.ponas", data="light")
    assert exported["first_height"] == done["height"]
    assert db("import", "tail.ponas")["added"] == 0


def test_snapshots_of_chosen_heights(db, world):
    tip = world.chain.height
    assert db("snapshot", "--out", "tip", "--height", tip)["block"] == world.chain.tip.id.hex()
    for height in (tip - 1, tip - 20):
        done = db("snapshot", "--out", f"s{height}", "--height", height)
        db("restore", f"s{height}", "--block", done["block"], data=f"d{height}")
    assert "go back to height" in db("snapshot", "--out", "old", "--height", 1, code=1)
    db("snapshot", "--out", "old", "--height", tip + 1, code=2)
    assert not Path("old").exists() and not Path("old.part").exists()


def test_a_restored_node_cannot_be_led_below_its_state(db, world):
    done = db("snapshot", "--out", "state.ponas", "--height", world.chain.height)
    db("restore", "state.ponas", "--block", done["block"], data="light")
    with Store("light/db", world.genesis.network) as store, Store(world.path, world.genesis.network) as full:
        light, source = Chain(store, world.rules), Chain(full, world.rules)
        with pytest.raises(UnknownParent):
            light.add_block(source.block_at(source.height - 3))


def test_hostile_snapshots(db, world):
    block = db("snapshot", "--out", "state.ponas")["block"]
    network = world.genesis.network
    frames = list(FrameFile(Path("state.ponas"), b"state", network))
    at = next(i for i, frame in enumerate(frames) if frame[2:].startswith(accounts.ACCOUNT))
    rich = frames[at][:-1] + bytes([frames[at][-1] ^ 1])
    wrong = {
        "rich": [*frames[:at], rich, *frames[at + 1 :]],
        "lacks": [*frames[:at], *frames[at + 1 :]],
        "extra": [*frames, b"\0\x04zzzzvalue"],
        "twice": [*frames[: at + 1], *frames[at:]],
        "order": [frames[0], *frames[:0:-1]],
        "block": [frames[0][:-1] + bytes([frames[0][-1] ^ 1]), *frames[1:]],
        "noblock": frames[1:],
        "long": [*frames[: at + 1], b"\xff\xff" + frames[at + 1][2:], *frames[at + 2 :]],
        "none": frames[:1],
        "nothing": [],
    }
    for name, content in wrong.items():
        with writing(Path(name), b"state", network) as file:
            for frame in content:
                file.write(frame)
        message = db("restore", name, "--block", block, data="light", code=1)
        assert name in message, message
        assert not Path("light/db").exists() and not Path("light/db.restoring").exists()
    assert "not after the trusted one" in db("restore", "state.ponas", "--block", "ab" * 32, data="light", code=1)
    db("restore", "state.ponas", "--block", "xy", data="light", code=2)
    db("restore", "state.ponas", "--block", block, data="light")
    assert "already" in db("restore", "state.ponas", "--block", block, data="light", code=1)


COMMANDS = [
    ("stats",), ("verify",), ("reindex",), ("compact",), ("repair",), ("export", "--out", "o"),
    ("import", "chain.ponas"), ("snapshot", "--out", "o"),
]  # fmt: skip


def test_a_database_in_use_is_left_alone(db, world):
    db("export", "--out", "chain.ponas")
    with Store(world.path, world.genesis.network):
        for command in COMMANDS:
            assert "in use by this process" in db(*command, code=1)
            given = [*command, "--genesis", "genesis.json", "--data", "node"]
            done = subprocess.run([sys.executable, "-m", "ponas_node.cli.main", "db", *given], capture_output=True)
            assert done.returncode == 1 and b"in use by another process" in done.stderr
    assert db("verify")["ok"]


def test_no_database_no_genesis_another_network(db, run, world, tmp_path):
    for command in COMMANDS:
        if command[0] != "import":
            assert "There is no database" in db(*command, data="nowhere", code=1)
        assert "--genesis" in one_line(run("db", *command, "--data", "node", code=2))
    other = World(tmp_path / "other" / "db", seats=4)
    other.store.close()
    assert "belongs to network" in db("stats", data="other", code=1)
    assert not Path("nowhere/db").exists()


def test_repair_of_lost_records(db, world):
    network = world.genesis.network
    expected = content(world.path, network)
    with plyvel.DB(str(world.path)) as raw:
        for prefix in (layout.STATE, layout.NODE, layout.HEIGHT, layout.HEADER, layout.LISTED):
            for key in list(raw.iterator(prefix=prefix, include_value=False))[1::2]:
                raw.delete(key)
    assert "is damaged" in db("export", "--out", "x", code=1)
    done = db("repair")
    assert done["height"] == done["recomputed"] == world.chain.height and done["stopped"] is None
    assert Path(done["damaged_files"]).is_dir()
    assert content(world.path, network) == expected and db("verify")["ok"]


def test_repair_ends_where_a_block_is_lost(db, world):
    with plyvel.DB(str(world.path)) as raw:
        raw.delete(layout.BLOCK + raw.get(layout.height_key(30)))
    done = db("repair")
    assert done["height"] == 29 and db("verify")["ok"]
    with Store(world.path, world.genesis.network) as store:
        chain = open_chain(store, world)
        assert records.current_epoch(chain.state).number == 1


def test_repair_of_a_sound_database_and_of_garbage(db, world):
    expected = content(world.path, world.genesis.network, without=())
    done = db("repair")
    assert (done["height"], done["recomputed"]) == (world.chain.height, 0)
    assert content(world.path, world.genesis.network, without=()) == expected
    for name in os.listdir("node/db"):
        Path("node/db", name).write_bytes(os.urandom(200))
    before = {name: Path("node/db", name).read_bytes() for name in os.listdir("node/db") if name != "LOG"}
    message = db("repair", code=1)
    assert "sync anew" in message
    assert all(Path("node/db", name).read_bytes() == data for name, data in before.items() if name.endswith("ldb"))
    shutil.rmtree("node/db")
    assert "There is no database" in db("repair", code=1)
