"""Wallet files: what is written can be opened, what is damaged is told apart, nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.keys import PrivateKey, address_text
from ponas_node import wallet as module
from ponas_node.units import AMOUNT_MAX, BadAmount, format_amount, parse_amount
from ponas_node.wallet import (
    BrokenWallet,
    WalletError,
    WalletExists,
    WalletMissing,
    WrongPassphrase,
    create_wallet,
    read_wallet,
)

KEY = PrivateKey(bytes(range(32)))
SLOW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(module, "_N", 16)


@SLOW
@given(seed=st.binary(min_size=32, max_size=32), passphrase=st.text(min_size=1), other=st.text())
def test_opens_with_its_passphrase_only(tmp_path: Path, seed, passphrase, other):
    import unicodedata

    path = tmp_path / os.urandom(8).hex()
    create_wallet(path, passphrase, PrivateKey(seed))
    wallet = read_wallet(path)
    assert wallet.open(passphrase).seed == seed
    assert seed.hex() not in path.read_text()
    if unicodedata.normalize("NFC", other) != unicodedata.normalize("NFC", passphrase):
        with pytest.raises(WrongPassphrase, match="does not open"):
            wallet.open(other)


def test_accents_typed_in_two_ways_are_one_passphrase(tmp_path):
    create_wallet(tmp_path / "w", "caf\u00e9", KEY)
    assert read_wallet(tmp_path / "w").open("cafe\u0301").seed == KEY.seed


def test_file(tmp_path):
    path = tmp_path / "deep" / "down" / "w.json"
    wallet = create_wallet(path, "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["w.json"]
    content = json.loads(path.read_text())
    assert content["address"] == address_text(wallet.address) and content["encryption"] == "scrypt-chacha20poly1305"
    assert wallet.encrypted and wallet.open("secret").address == wallet.address


def test_two_wallets_differ(tmp_path):
    assert create_wallet(tmp_path / "a", None).address != create_wallet(tmp_path / "b", None).address


def test_not_encrypted_says_so(tmp_path):
    create_wallet(tmp_path / "w", None, KEY)
    wallet = read_wallet(tmp_path / "w")
    assert not wallet.encrypted and wallet.encryption == "none" and wallet.open().seed == KEY.seed


def test_never_overwrites(tmp_path):
    path = tmp_path / "w"
    path.write_text("precious")
    with pytest.raises(WalletExists, match="left as it is"):
        create_wallet(path, "secret")
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


def test_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WalletError, match="No space left"):
        create_wallet(tmp_path / "w", "secret")
    assert list(tmp_path.iterdir()) == []


def test_empty_passphrase(tmp_path):
    with pytest.raises(WalletError, match="protects nothing"):
        create_wallet(tmp_path / "w", "")
    assert not (tmp_path / "w").exists()


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(WalletMissing, match="ponas wallet new"):
        read_wallet(tmp_path / "none")
    with pytest.raises(WalletError, match="directory"):
        read_wallet(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", "5", '"x"', "[" * 20000, "x" * 20000, '{"version": 1, "address": 5}', "\0\xff"],
)
def test_what_is_no_wallet(tmp_path, text):
    (tmp_path / "w").write_text(text)
    with pytest.raises(BrokenWallet, match="backup"):
        read_wallet(tmp_path / "w")


@SLOW
@given(data=st.data())
def test_any_damage_is_noticed(tmp_path: Path, data):
    """Change one character anywhere: the wallet is refused, or still gives the very same key."""
    path = tmp_path / "w"
    path.unlink(missing_ok=True)
    create_wallet(path, "secret", KEY)
    text = path.read_text()
    place = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.sampled_from('0123456789abcdefxyz"{}:, \n'))
    path.write_text(text[:place] + char + text[place + 1 :])
    with contextlib.suppress(BrokenWallet, WrongPassphrase):
        assert read_wallet(path).open("secret").seed == KEY.seed


@pytest.mark.parametrize(
    "scrypt",
    [
        {"n": 1 << 30}, {"n": 1 << 24, "r": 32}, {"n": 0}, {"n": 3}, {"n": -16}, {"n": "16"}, {"n": True}, {"n": 16.0},
        {"r": 0}, {"r": 10**9}, {"p": 0}, {"p": 10**9}, {"salt": "zz"}, {"salt": ""}, {"salt": "00" * 10_000},
        {"p": None},
    ],
)  # fmt: skip
def test_hostile_parameters_cost_nothing(tmp_path, scrypt):
    path = tmp_path / "w"
    create_wallet(path, "secret", KEY)
    content = json.loads(path.read_text())
    content["scrypt"] |= scrypt
    path.write_text(json.dumps(content))
    started = time.monotonic()
    with pytest.raises(BrokenWallet):
        read_wallet(path).open("secret")
    assert time.monotonic() - started < 1


def test_parts_of_two_wallets_do_not_mix(tmp_path):
    create_wallet(tmp_path / "a", "secret", KEY)
    create_wallet(tmp_path / "b", "secret", PrivateKey(bytes(32)))
    one, two = (json.loads((tmp_path / name).read_text()) for name in "ab")
    (tmp_path / "c").write_text(json.dumps({**one, "public_key": two["public_key"]}))
    with pytest.raises(BrokenWallet, match="belong together"):
        read_wallet(tmp_path / "c")
    (tmp_path / "d").write_text(json.dumps({**one, "address": two["address"], "public_key": two["public_key"]}))
    with pytest.raises(WrongPassphrase):
        read_wallet(tmp_path / "d").open("secret")
    create_wallet(tmp_path / "e", None, KEY)
    plain = json.loads((tmp_path / "e").read_text())
    (tmp_path / "f").write_text(json.dumps({**plain, "seed": "00" * 32}))
    with pytest.raises(BrokenWallet, match="does not belong to its address"):
        read_wallet(tmp_path / "f").open()


@given(st.integers(0, AMOUNT_MAX))
def test_amounts_round_trip(amount):
    assert parse_amount(format_amount(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 PONAS"), (1, "0.00000001 PONAS"), (150_000_000, "1.5 PONAS"), (-5, "-0.00000005 PONAS")]
)
def test_amount_text(amount, text):
    assert format_amount(amount) == text


@pytest.mark.parametrize(
    "text", ["", "-1", "1,5", "1e8", ".5", "1.", "0.000000001", "92233720369", "x", "1 2", "٣", "nan", "1" * 50]
)
def test_bad_amounts(text):
    with pytest.raises(BadAmount):
        parse_amount(text)
