"""Databases of an older layout are brought up to date on opening; indexes that are not whole are rebuilt."""

import plyvel
import pytest

from chain import layout
from chain.chain import Chain
from chain.failures import StoreError
from chain.indexing import rebuild
from chain.store import Store
from chain.types import CoinbaseBody, Kind, sign_transaction
from tests.chain.rules import MINTERS, NETWORK, USERS, TestRules, mint, transfer


def make(path):
    """A chain of six blocks with transfers and two tasks; returns everything in its database."""
    rules = TestRules()
    with Store(path, NETWORK) as store:
        chain = Chain(store, rules)
        for slot in range(1, 5):
            chain.add_block(mint(chain, slot, transfer(USERS[0], slot - 1, USERS[1].address, 5)))
        for number, size in enumerate((3, 1)):
            body = CoinbaseBody(size, ())
            rules.known.add(body.encode())
            task = sign_transaction(USERS[2], NETWORK, Kind.PUBLISH, number, 500, body)
            chain.add_block(mint(chain, 5 + number, task))
        assert chain.verify() == []
        return dict(store.raw_iterate(b""))


def to_layout_1(path):
    """Make a database what version 1 of the layout would have made of it."""
    with plyvel.DB(str(path)) as db:
        db.put(layout.META_SCHEMA, (1).to_bytes(4, "big"))
        db.delete(layout.META_INDEXES)
        for prefix in (layout.OWNER, layout.LISTED):
            for key in list(db.iterator(prefix=prefix, include_value=False)):
                db.delete(key)


def test_layout_1_is_migrated(tmp_path):
    expected = make(tmp_path / "db")
    to_layout_1(tmp_path / "db")
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        assert dict(store.raw_iterate(b"")) == expected and chain.verify() == []
        assert list(store.minted(MINTERS[0].address)) == [6, 4, 2]
        assert list(store.minted(MINTERS[0].address, before=4)) == [2]
        assert len(list(store.listed(b""))) == 2


def test_a_rebuild_that_was_cut_short_is_done_again(tmp_path, monkeypatch):
    expected = make(tmp_path / "db")

    class Killed(BaseException):
        pass

    class Dying(Store):
        writes = 0

        def write(self, entries):
            self.writes += 1
            if self.writes > self.most:
                raise Killed
            super().write(entries)

    monkeypatch.setattr("chain.store._AT_ONCE", 3)
    for most in range(1, 40):
        to_layout_1(tmp_path / "db")
        with Dying(tmp_path / "db", NETWORK) as store:
            store.most = most
            try:
                Chain(store, TestRules())
            except Killed:
                pass
            else:
                assert most > 10
                break
        with Store(tmp_path / "db", NETWORK) as store:
            assert Chain(store, TestRules()).verify() == []
            assert dict(store.raw_iterate(b"")) == expected
    else:
        pytest.fail("the rebuild never ended")


def test_reindex_mends_what_was_damaged(tmp_path):
    expected = make(tmp_path / "db")
    with plyvel.DB(str(tmp_path / "db")) as db:
        for prefix in layout.INDEX_PREFIXES:
            key, _ = next(db.iterator(prefix=prefix))
            db.delete(key)
            db.put(key[:-1] + bytes([key[-1] ^ 1]), b"")
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        assert chain.verify() != []
        assert rebuild(store) == sum(len(list(store.raw_iterate(prefix))) for prefix in layout.INDEX_PREFIXES)
        assert chain.verify() == [] and dict(store.raw_iterate(b"")) == expected


def test_layout_0_and_newer_are_refused(tmp_path):
    make(tmp_path / "db")
    for version, code in ((0, "corrupt"), (layout.SCHEMA + 1, "newer_schema")):
        with plyvel.DB(str(tmp_path / "db")) as db:
            db.put(layout.META_SCHEMA, version.to_bytes(4, "big"))
            before = dict(db)
        with pytest.raises(StoreError) as caught:
            Store(tmp_path / "db", NETWORK)
        assert caught.value.code == code
        with plyvel.DB(str(tmp_path / "db")) as db:
            assert dict(db) == before, "what is refused is left as it was"


def test_the_rules_index_follows_a_reorganisation(tmp_path, builder):
    rules = TestRules()
    body = CoinbaseBody(3, ())
    rules.known.add(body.encode())
    builder.rules.known.add(body.encode())
    task = sign_transaction(USERS[2], NETWORK, Kind.PUBLISH, 0, 500, body)
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        first = builder.mint(builder.genesis, 1, [task])
        chain.add_block(first)
        assert list(store.listed(b"")) == [len(body.encode()).to_bytes(4, "big") + task.id]
        second = builder.mint(builder.genesis, 2, [])
        third = builder.mint(second.header, 3, [])
        chain.add_block(second)
        assert len(chain.add_block(third).disconnected) == 1
        assert list(store.listed(b"")) == [] and chain.verify() == []
        fourth = builder.mint(third.header, 5, [task])
        chain.add_block(fourth)
        assert len(list(store.listed(b""))) == 1 and chain.verify() == []
