"""Encoder and decoder of every record: values come back as they were, bytes are refused or are the only encoding."""

import random
import tracemalloc

import msgpack
import pytest

from chain import encoding
from chain.encoding import Record
from chain.errors import BadEncoding
from chain.types import MAX_BODY, Transaction, TransferBody, read_payments, read_transaction
from tests.fuzz.campaign import MEMORY, campaign
from tests.fuzz.inputs import drawer, mutated, record_types

TYPES = record_types()
_MOST = 1 << 22
_MUTANTS = 8  # of one value


def test_no_record_is_left_out():
    names = {cls.__name__ for cls in TYPES}
    assert len(TYPES) > 100 and all(cls.__base__ is Record for cls in TYPES)
    assert {"Block", "Header", "Transaction", "StateProof", "RevealBody", "GetPending", "SignedShare"} <= names


@pytest.mark.parametrize("cls", TYPES)
def test_nothing_but_claims_takes_little_memory(cls):
    cls.decode(drawer(cls)(random.Random(0)).encode(), _MOST)
    widest = max(1, encoding._WIDEST[cls])
    claim = b"\xdc" + widest.to_bytes(2, "big") if widest < 1 << 16 else b"\xdd" + widest.to_bytes(4, "big")
    for length in (5_000, 1 << 20):
        tracemalloc.start()
        with pytest.raises(BadEncoding):
            cls.decode((claim * length)[:length], length)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY


def fuzz(inputs):
    """A value of a random type, and some bytes made of its encoding, which other types read as well."""
    draws = [(cls, drawer(cls)) for cls in TYPES]
    counts = {"read": 0, "refused": 0, "kinds": set()}

    def trial(dice, tried):
        cls, draw = dice.choice(draws)
        value = draw(dice)
        raw = value.encode()
        tried[:] = [cls, value]
        again = cls.decode(raw, _MOST)
        assert again == value and again.encode() == raw
        counts["kinds"].add(cls)
        for _ in range(_MUTANTS):
            data = mutated(dice, raw)
            reader = cls if dice.random() < 0.9 else dice.choice(TYPES)
            tried[:] = [reader, data]
            try:
                read = reader.decode(data, _MOST)
            except BadEncoding:
                counts["refused"] += 1
            else:
                counts["read"] += 1
                assert read.encode() == data and reader.decode(data, _MOST) == read

    campaign("records", inputs // (_MUTANTS + 1), trial)
    print(f"records: {counts['read']} changed inputs were read, {counts['refused']} refused")
    assert counts["kinds"] == set(TYPES)
    assert counts["read"] > inputs // 100 and counts["refused"] > inputs // 10


def test_records():
    fuzz(20_000)


@pytest.mark.long
def test_a_million_inputs():
    fuzz(1_000_000)


def test_payments_are_read_as_the_record_is():
    """The shortcut for a transfer's body takes what the decoder takes, and refuses what it refuses."""
    draw, counts = drawer(TransferBody), {"read": 0, "refused": 0}

    def trial(dice, tried):
        raw = draw(dice).encode()
        for data in (raw, *[mutated(dice, raw) for _ in range(_MUTANTS)]):
            tried[:] = [data]
            try:
                expected = tuple((output.address, output.amount) for output in TransferBody.decode(data).outputs)
            except BadEncoding:
                counts["refused"] += 1
                with pytest.raises(BadEncoding):
                    read_payments(data)
            else:
                counts["read"] += 1
                assert read_payments(data) == expected

    campaign("payments", 2_000, trial)
    assert counts["read"] > 2_000 and counts["refused"] > 2_000


def test_transactions_are_read_as_their_fields_say():
    """The shortcut for transactions takes nothing that the reader made of the annotations refuses."""
    counts = {"read": 0, "left": 0}
    general = encoding._record_reader(Transaction, None)
    draw = drawer(Transaction)
    odd = (None, True, False, 1.0, "", "a" * 32, b"", bytes(31), bytes(32), bytes(33), bytes(63), bytes(65), [], [0])
    ends = (-1, 0, 255, 256, 2**63 - 1, 2**63, 2**64 - 1, bytes(MAX_BODY), bytes(MAX_BODY + 1))

    def trial(dice, tried):
        fields = msgpack.unpackb(draw(dice).encode())
        if dice.random() < 0.8:
            fields[dice.randrange(6)] = dice.choice(odd + ends)
        tried[:] = fields
        quick = read_transaction(fields)
        if quick is None:
            counts["left"] += 1
            with pytest.raises(BadEncoding):
                general(fields, "Transaction")
        else:
            counts["read"] += 1
            assert quick == general(fields, "Transaction") and quick.raw == quick.encode() == msgpack.packb(fields)

    campaign("transactions", 10_000, trial)
    assert min(counts.values()) > 1_000
