"""Canonical encoding: round trips, and nothing but BadEncoding on any bytes."""

import dataclasses
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.accounts import Account
from chain.encoding import AMOUNT_MAX, U64_MAX, Record
from chain.errors import BadEncoding
from chain.types import Block, CoinbaseBody, Header, Output, Transaction, TransferBody

hashes = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
u64 = st.integers(0, U64_MAX)
amounts = st.integers(0, AMOUNT_MAX)
u8 = st.integers(0, 255)
accounts = st.builds(Account, amounts, u64)
outputs = st.builds(Output, st.binary(min_size=20, max_size=20), amounts)
transfers = st.builds(TransferBody, st.lists(outputs, min_size=1, max_size=5).map(tuple))
coinbases = st.builds(CoinbaseBody, u64, st.lists(outputs, max_size=5).map(tuple))
transactions = st.builds(Transaction, u8, hashes, u64, amounts, st.binary(max_size=300), signatures)
headers = st.builds(Header, u8, u64, u64, hashes, hashes, hashes, hashes, hashes, signatures)
blocks = st.builds(Block, headers, st.lists(transactions, max_size=4).map(tuple))
records = st.one_of(accounts, outputs, transfers, coinbases, transactions, headers, blocks)
TYPES = (Account, Output, TransferBody, CoinbaseBody, Transaction, Header, Block)


def decode_any(data):
    """Decode as every type; whatever is accepted must re-encode to the same bytes."""
    for cls in TYPES:
        try:
            record = cls.decode(data)
        except BadEncoding:
            continue
        assert record.encode() == data


@given(records)
def test_round_trip(record):
    data = record.encode()
    again = type(record).decode(data)
    assert again == record and again.encode() == data


@given(st.binary(max_size=400))
def test_random_bytes(data):
    decode_any(data)


@settings(max_examples=300)
@given(records, st.data())
def test_mutated_bytes(record, data):
    raw = bytearray(record.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(("set", "drop", "add")))
        if how == "set":
            raw[at] = data.draw(u8)
        elif how == "drop" and len(raw) > 1:
            del raw[at]
        else:
            raw.insert(at, data.draw(u8))
    decode_any(bytes(raw))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), U64_MAX)
        | st.binary(max_size=70)
        | st.text(max_size=9)
        | st.floats(),
        lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=30,
    )
)
def test_any_messagepack(value):
    decode_any(msgpack.packb(value))


@given(records, st.binary(min_size=1, max_size=3))
def test_trailing_bytes_are_refused(record, tail):
    with pytest.raises(BadEncoding):
        type(record).decode(record.encode() + tail)


def test_other_encodings_of_one_value_are_refused():
    canonical = Account(5, 1).encode()
    assert canonical == b"\x92\x05\x01"
    for other in (b"\x92\xcc\x05\x01", b"\xdc\x00\x02\x05\x01", b"\x92\xcf" + (5).to_bytes(8, "big") + b"\x01"):
        with pytest.raises(BadEncoding):
            Account.decode(other)


@pytest.mark.parametrize(("balance", "nonce"), [(AMOUNT_MAX + 1, 0), (-1, 0), (0, True), (0, 1.0), (b"", 0), (None, 0)])
def test_values_outside_the_limits_are_refused(balance, nonce):
    with pytest.raises(BadEncoding):
        Account.decode(msgpack.packb([balance, nonce]))


@pytest.mark.parametrize("cls", TYPES)
@pytest.mark.parametrize("claim", [b"\xdd\x00\x0f\xff\xf0", b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdc\x10\x00"])
def test_huge_claims_take_no_memory(cls, claim):
    data = (claim * 1000 + bytes(1 << 20))[: 1 << 20]
    for item in (data, claim, b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x92" + claim * 500):
        tracemalloc.start()
        with pytest.raises(BadEncoding):
            cls.decode(item)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 << 20


def test_longer_than_allowed_is_refused_unread():
    with pytest.raises(BadEncoding, match="limit"):
        Account.decode(bytes(100), 99)


def test_deep_nesting_is_refused():
    for depth in (10, 500, 5000, 200_000):
        with pytest.raises(BadEncoding):
            Block.decode(b"\x91" * depth)


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing(Record):
    """A record without fields, as some messages are."""


def test_a_record_without_fields():
    assert Nothing.decode(Nothing().encode()) == Nothing()
    for data in (b"", b"\x91\x00", b"\x80", b"\xc0"):
        with pytest.raises(BadEncoding):
            Nothing.decode(data)
