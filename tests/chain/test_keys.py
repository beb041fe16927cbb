"""Keys, addresses, signatures."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import BadSignature
from chain.keys import BadAddress, PrivateKey, address_text, parse_address, verify, verify_all
from chain.types import Kind, Output, TransferBody, sign_transaction

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789ABCXYZ-_ ."


@given(st.binary(min_size=20, max_size=20))
def test_address_round_trip(address):
    assert parse_address(address_text(address)) == address


@settings(max_examples=5, deadline=None)
@given(st.binary(min_size=20, max_size=20))
def test_every_single_character_typo_is_detected(address):
    text = address_text(address)
    for at, right in enumerate(text):
        for wrong in ALPHABET:
            if wrong != right:
                with pytest.raises(BadAddress):
                    parse_address(text[:at] + wrong + text[at + 1 :])
        with pytest.raises(BadAddress):
            parse_address(text[:at] + text[at + 1 :])
        with pytest.raises(BadAddress):
            parse_address(text[:at] + "a" + text[at:])


@given(st.text(max_size=60))
def test_any_text(text):
    with contextlib.suppress(BadAddress):
        assert address_text(parse_address(text)) == text.strip()


def test_signature():
    key = PrivateKey(bytes(32))
    signature = key.sign(b"hello")
    verify(key.public, signature, b"hello")
    for public, sign, message in (
        (key.public, signature, b"hallo"),
        (key.public, bytes(64), b"hello"),
        (PrivateKey(b"\1" * 32).public, signature, b"hello"),
        (b"\xff" * 32, signature, b"hello"),
        (key.public[:31], signature, b"hello"),
    ):
        with pytest.raises(BadSignature):
            verify(public, sign, message)


def test_many_signatures_at_once():
    key = PrivateKey(bytes(32))
    items = [(key.public, key.sign(b"%d" % i), b"%d" % i) for i in range(300)]
    verify_all(items)
    verify_all([])
    for at in (0, 1, 150, 299):
        bad = [*items]
        bad[at] = (key.public, bytes(64), b"")
        with pytest.raises(BadSignature):
            verify_all(bad)


def test_a_signature_counts_on_one_network_only():
    key = PrivateKey.generate()
    transaction = sign_transaction(key, b"a" * 32, Kind.TRANSFER, 0, 1, TransferBody((Output(bytes(20), 1),)))
    transaction.check_signature(b"a" * 32)
    with pytest.raises(BadSignature):
        transaction.check_signature(b"b" * 32)


def test_a_key_does_not_show_its_seed():
    key = PrivateKey.generate()
    assert key.seed.hex() not in repr(key) and repr(key.seed) not in repr(key)
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey(bytes(31))
