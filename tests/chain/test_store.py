"""The database: refusals with a reason and a remedy, namespaces, and a check that finds damage."""

import os
import subprocess
import sys

import plyvel
import pytest

from chain import layout
from chain.chain import Chain
from chain.failures import StoreError
from chain.store import Store, TipChange
from chain.verify import verify_store
from tests.chain.rules import NETWORK, USERS, TestRules, mint, transfer

OPEN = """
import sys
from chain.failures import StoreError
from chain.store import Store
try:
    Store(sys.argv[1], bytes(32))
except StoreError as error:
    print(error.code)
"""


def refused(code, path, network=NETWORK, **options):
    with pytest.raises(StoreError) as caught:
        Store(path, network, **options)
    assert caught.value.code == code
    assert caught.value.message.endswith(".") and caught.value.remedy.endswith(".")
    assert str(path) in str(caught.value)


def test_missing(tmp_path):
    refused("missing", tmp_path / "none", create=False)
    (tmp_path / "empty").mkdir()
    refused("missing", tmp_path / "empty", create=False)


def test_not_creatable(tmp_path):
    (tmp_path / "file").write_text("")
    refused("not_creatable", tmp_path / "file" / "db")
    refused("not_creatable", tmp_path / "file")


def test_locked(tmp_path):
    with Store(tmp_path / "db", NETWORK):
        refused("locked", tmp_path / "db")
        command = [sys.executable, "-c", OPEN, tmp_path / "db"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "locked"
    Store(tmp_path / "db", NETWORK).close()


def test_other_network(tmp_path):
    Store(tmp_path / "db", NETWORK).close()
    refused("other_network", tmp_path / "db", bytes(32))


def test_other_schema(tmp_path):
    Store(tmp_path / "db", NETWORK).close()
    with plyvel.DB(str(tmp_path / "db")) as db:
        db.put(layout.META_SCHEMA, (layout.SCHEMA + 1).to_bytes(4, "big"))
    refused("newer_schema", tmp_path / "db")


def test_foreign_and_damaged_databases(tmp_path):
    with plyvel.DB(str(tmp_path / "foreign"), create_if_missing=True) as db:
        db.put(b"other", b"data")
    refused("corrupt", tmp_path / "foreign")
    Store(tmp_path / "db", NETWORK).close()
    for name in os.listdir(tmp_path / "db"):
        if name.startswith(("MANIFEST", "CURRENT")):
            (tmp_path / "db" / name).write_bytes(b"garbage")
    refused("corrupt", tmp_path / "db")


def test_namespaces(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        one, two = store.namespace(b"one"), store.namespace(b"on")
        one.put(b"a1", b"x")
        two.put(b"ea1", b"other")
        with one.batch() as batch:
            batch.put(b"a2", b"y")
            batch.put(b"b1", b"z")
            batch.delete(b"a1")
        with pytest.raises(KeyError), one.batch() as batch:
            batch.put(b"lost", b"")
            raise KeyError
        assert list(one.iterate()) == [(b"a2", b"y"), (b"b1", b"z")]
        assert list(one.iterate(b"a")) == [(b"a2", b"y")]
        assert list(one.iterate(reverse=True)) == [(b"b1", b"z"), (b"a2", b"y")]
        assert list(two.iterate()) == [(b"ea1", b"other")]
        one.delete(b"a2")
        assert one.get(b"a2") is None and one.get(b"b1") == b"z"
        store.facts.put(b"f", b"1", sync=False)
        assert store.facts.get(b"f") == b"1"
        with pytest.raises(ValueError, match="name"):
            store.namespace(b"")
    with Store(tmp_path / "db", NETWORK) as store:
        assert store.namespace(b"one").get(b"b1") == b"z" and store.facts.get(b"f") == b"1"


def test_a_failed_write_changes_no_cache(tmp_path, monkeypatch):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        block = mint(chain, 1, transfer(USERS[0], 0, USERS[1].address, 5))
        before, tip = dict(store.raw_iterate(b"")), chain.tip

        class Disk:
            def __init__(self, db):
                self.db = db

            def __getattr__(self, name):
                if name == "write_batch":
                    raise plyvel.IOError(b"IO error: No space left on device")
                return getattr(self.db, name)

        real = store._db
        monkeypatch.setattr(store, "_db", Disk(real))
        with pytest.raises(StoreError) as caught:
            chain.add_block(block)
        assert caught.value.code == "disk_full" and "space" in caught.value.remedy
        monkeypatch.setattr(store, "_db", real)
        assert chain.tip == tip and dict(store.raw_iterate(b"")) == before and not chain.has(block.id)
        assert chain.verify() == []
        for write in (lambda: chain.add_block(block), lambda: store.facts.put(b"f", b"")):
            with pytest.raises(StoreError, match="full"):
                write()  # nothing may be written behind what may be half a record
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        chain.add_block(block)
        assert chain.verify() == []


def test_a_hole_in_the_tree_is_the_databases_fault_not_the_blocks(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        block = mint(chain, 1, transfer(USERS[0], 0, USERS[1].address, 5))
        nodes = [key for key, _ in store.raw_iterate(layout.NODE)]
    with plyvel.DB(str(tmp_path / "db")) as db:
        for key in nodes[1:]:
            db.delete(key)
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                chain.add_block(block)
            assert caught.value.code == "corrupt"


def test_a_change_of_tip_connects_something(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store, pytest.raises(ValueError, match="connects"):
        store.commit(TipChange((), (), {}, {}))


@pytest.mark.parametrize(
    "prefix",
    [layout.STATE, layout.NODE, layout.BLOCK, layout.HEADER, layout.HEIGHT, layout.TRANSACTION, layout.HISTORY],
)
@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_verify_finds_damage(tmp_path, prefix, damage):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        for i in range(1, 41):  # so many accounts that the tree has several nodes
            chain.add_block(mint(chain, i, transfer(USERS[0], i - 1, bytes([i]) * 20, 5)))
        assert chain.verify() == []
    with plyvel.DB(str(tmp_path / "db")) as db:
        key, value = list(db.iterator(prefix=prefix))[3]
        if damage == "remove":
            db.delete(key)
        elif damage == "change":
            db.put(key, value[:-1] + bytes([value[-1] ^ 1]) if value else b"x")
        else:
            db.put(key[:-1] + bytes([key[-1] ^ 0x80]), value)
    with Store(tmp_path / "db", NETWORK) as store:
        store.use_index(TestRules().index)
        findings = list(verify_store(store))
        assert findings and all(isinstance(finding, str) for finding in findings)
