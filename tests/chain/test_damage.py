"""Damaged files of the database: it opens at a moment that was, or says what is wrong. It never shows anything else."""

import contextlib
import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

from chain import leveldb
from chain.chain import Chain
from chain.failures import StoreError
from chain.store import Store
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, USERS, TestRules, transfer


def fingerprint(store):
    """Hash of everything in the database."""
    seen = hashlib.sha256()
    for key, value in store.raw_iterate(b""):
        seen.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return seen.digest()


class History:
    """A database that grows, and every content that it had, by the writes that made it."""

    def __init__(self, path):
        self.path = path
        self.moments = {}  # fingerprint -> number of the write
        self.tips = {}
        self.log_sizes = []  # size of the log file after each write

    def grow(self, rounds):
        with Store(self.path, NETWORK) as store:
            chain = Chain(store, TestRules())
            builder = Builder(chain.rules)
            builder.states[chain.tip.id] = dict(store.state.items())
            self._note(store, chain)
            for number in range(rounds):
                base = chain.tip
                payment = transfer(USERS[0], chain.height // 3, USERS[1].address, 1)
                short = builder.mint(base, base.slot + 1, [payment])
                long = []
                for slot in (2, 3, 4):
                    header = long[-1].header if long else base
                    long.append(builder.mint(header, base.slot + slot, [] if long else [payment]))
                for block in (short, *long):
                    if chain.add_block(block).connected:
                        self._note(store, chain)
                store.namespace(b"other").put(b"round", number.to_bytes(8, "big") + bytes(300))
                self._note(store, chain)
                builder.forget({chain.tip.id})
        return self

    def _note(self, store, chain):
        self.moments[fingerprint(store)] = len(self.log_sizes)
        self.tips[len(self.log_sizes)] = chain.tip.id
        sizes = {}
        for log in self.path.glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # LevelDB removes a log that it no longer needs
                sizes[log.name] = log.stat().st_size
        self.log_sizes.append(sizes)

    def outcome(self, path):
        """Number of the moment that the database in `path` shows, or the StoreError that it ends with."""
        try:
            with Store(path, NETWORK, create=False) as store:
                chain = Chain(store, TestRules())
                shown = fingerprint(store)
                assert shown in self.moments, "content that never was"
                moment = self.moments[shown]
                assert chain.tip.id == self.tips[moment]
                assert chain.verify() == []
                for height in range(chain.height + 1):
                    assert chain.block_at(height).header.height == height
                return moment
        except StoreError as error:
            assert error.code in ("corrupt", "missing"), error
            assert error.message.endswith(".") and error.remedy.endswith(".")
            return error


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """All in one log."""
    return History(tmp_path_factory.mktemp("small") / "db").grow(12)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Spread over many files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leveldb, "_WRITE_BUFFER", 1 << 16)
        history = History(tmp_path_factory.mktemp("many") / "db").grow(60)
    assert len(list(history.path.glob("*.ldb"))) >= 3
    return history


def copy(history, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(history.path, target)
    return target


def torn(history, target, cuts):
    """Cut the log off at each of `cuts`: everything that was written whole must be there, and nothing more."""
    (log,) = history.path.glob("*.log")
    sizes = [moment[log.name] for moment in history.log_sizes]
    for cut in cuts:
        os.truncate(copy(history, target) / log.name, cut)
        if cut < sizes[0]:
            continue
        whole = max(number for number, size in enumerate(sizes) if size <= cut)
        assert history.outcome(target) == whole, f"cut at {cut}"


def test_a_torn_last_write(small, tmp_path):
    (log,) = small.path.glob("*.log")
    sizes = [moment[log.name] for moment in small.log_sizes]
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    edges = [size + step for size in dice.sample(sizes, 8) for step in (-1, 0, 1)]
    torn(small, tmp_path / "db", sorted({min(cut, sizes[-1]) for cut in edges}))


@pytest.mark.long
def test_every_torn_write(small, tmp_path):
    (log,) = small.path.glob("*.log")
    torn(small, tmp_path / "db", range(0, log.stat().st_size + 1, 17))


def test_zeros_behind_the_last_write(small, tmp_path):
    for count in (1, 6, 7, 100, 40_000):
        path = copy(small, tmp_path / "db")
        (log,) = path.glob("*.log")
        with log.open("ab") as file:
            file.write(bytes(count))
        assert small.outcome(path) == len(small.log_sizes) - 1


def damage(path, dice):
    """Flip, cut, empty or remove one file of the database; says what it did."""
    files = sorted(p for p in path.iterdir() if p.name not in ("LOCK", "LOG", "LOG.old") and p.stat().st_size)
    victim = dice.choice(files)
    size = victim.stat().st_size
    kind = dice.choice(["flip", "flip", "flip", "burst", "cut", "empty", "remove"])
    if kind in ("flip", "burst"):
        data = bytearray(victim.read_bytes())
        at = dice.randrange(size)
        if kind == "flip":
            data[at] ^= 1 << dice.randrange(8)
        else:
            data[at : at + 600] = dice.randbytes(len(data[at : at + 600]))
        victim.write_bytes(data)
    elif kind == "cut":
        os.truncate(victim, dice.randrange(size))
    elif kind == "empty":
        os.truncate(victim, 0)
    else:
        victim.unlink()
    return f"{kind} {victim.name}"


def damage_often(history, tmp_path, times, seed):
    print(f"seed {seed}")
    shown = refused = 0
    for number in range(times):
        dice = random.Random(seed + number)
        path = copy(history, tmp_path / "db")
        done = damage(path, dice)
        try:
            found = history.outcome(path)
        except AssertionError as error:
            pytest.fail(f"seed {seed + number}: {done}: {error}")
        if isinstance(found, int):
            shown += 1
        else:
            refused += 1
    return shown, refused


@pytest.mark.parametrize("which", ["small", "many"])
def test_damaged_files(which, request, tmp_path):
    _, refused = damage_often(request.getfixturevalue(which), tmp_path, 40, random.randrange(2**32))
    assert refused, "some damage cannot be overlooked"


@pytest.mark.long
@pytest.mark.parametrize("which", ["small", "many"])
def test_many_damaged_files(which, request, tmp_path):
    damage_often(request.getfixturevalue(which), tmp_path, 1500, random.randrange(2**32))


def test_the_error_names_what_is_damaged(small, tmp_path):
    path = copy(small, tmp_path / "db")
    (log,) = path.glob("*.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    found = small.outcome(path)
    assert isinstance(found, StoreError) and "checksum" in found.message and "ponas db repair" in found.remedy
    assert str(Path(path)) in found.message
