"""Damage to the files of a database, then `ponas db repair`: the beginning of the same chain, or a clear refusal."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from chain import leveldb
from chain.store import Store
from ponas_node.cli.main import main
from tests.chain.test_damage import damage
from tests.cli.test_db import content, keep_facts, open_chain
from tests.consensus.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A database of several files, closed, with everything that its blocks need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leveldb, "_WRITE_BUFFER", 1 << 16)
        root = tmp_path_factory.mktemp("repair")
        world = World(root / "node" / "db")
        keep_facts(world.facts, root / "unused", world.genesis.network)
        for _ in range(120):
            world.mint()
        world.store.close()
    (root / "genesis.json").write_text(world.genesis.to_json())
    assert len(list(world.path.glob("*.ldb"))) >= 2
    return world


def repair(capsys, genesis, data):
    """Exit code, and the outcome where it is 0, else the error."""
    code = main(["db", "repair", "--genesis", str(genesis), "--data", str(data), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out[out.index("{") :]) if code == 0 else err


def damage_and_repair(world, capsys, times, seed):
    print(f"seed {seed}")
    root = world.path.parent.parent
    data = root / "copy"
    expected = content(world.path, world.genesis.network, without=b"u")
    whole = lost = 0
    for number in range(times):
        dice = random.Random(seed + number)
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(world.path.parent, data)
        done = [damage(data / "db", dice) for _ in range(dice.choice([1, 1, 3]))]
        code, answer = repair(capsys, root / "genesis.json", data)
        where = f"seed {seed + number}: {done}"
        if code:
            assert answer.startswith("ponas: ") and answer.count("\n") == 1, where
            assert "sync anew" in answer or "There is no database" in answer, f"{where}: {answer}"
            assert not list(data.glob("db.*")), f"{where}: something was left behind"
            continue
        with Store(data / "db", world.genesis.network, create=False) as store:
            chain = open_chain(store, world)
            assert chain.verify() == [], where
            assert chain.id_at(chain.height) == chain.tip.id == ids(world, expected)[chain.height], where
            assert chain.height == answer["height"]
        if answer["height"] == world.chain.height:
            assert content(data / "db", world.genesis.network, without=b"u") == expected, where
            whole += 1
        else:
            lost += 1
        assert Path(answer["damaged_files"]).is_dir()
    return whole, lost


def ids(world, expected):
    return [value for key, value in expected.items() if key[:1] == b"h"]


def test_damage_and_repair(world, capsys):
    whole, _ = damage_and_repair(world, capsys, 12, random.randrange(2**32))
    assert whole, "no damage was mended"


@pytest.mark.long
def test_much_damage_and_repair(world, capsys):
    whole, lost = damage_and_repair(world, capsys, 300, random.randrange(2**32))
    assert whole > 50 and lost
