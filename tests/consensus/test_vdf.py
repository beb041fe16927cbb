"""The delay function: one output in one encoding. A choice of encodings would be a choice of beacons."""

from __future__ import annotations

import random

import pytest

from consensus import vdf
from consensus.types import beacon_value

ITERATIONS = 1000
BITS = 512


def gcd_of(form: bytes) -> int:
    """The field g of a form whose g has one byte."""
    return form[2 + BITS // 16 + BITS // 32]


@pytest.fixture(scope="module")
def outputs() -> list[tuple[bytes, bytes]]:
    """Challenges and outputs: one with g = 1, and all with a larger g, whose last byte the library reads loosely."""
    seed = random.randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    found: list[tuple[bytes, bytes]] = []
    loose = 0
    while loose < 2:
        challenge = source.randbytes(32)
        output = vdf.prove(challenge, BITS, ITERATIONS)
        loose += gcd_of(output) > 1
        if gcd_of(output) > 1 or not found:
            found.append((challenge, output))
    return found


def test_no_bit_of_the_output_can_be_changed(outputs: list[tuple[bytes, bytes]]) -> None:
    for challenge, output in outputs:
        assert vdf.verify(challenge, BITS, ITERATIONS, output)
        for bit in range(8 * vdf.OUTPUT):
            changed = bytearray(output)
            changed[bit // 8] ^= 1 << bit % 8
            assert not vdf.verify(challenge, BITS, ITERATIONS, bytes(changed)), f"bit {bit} of {challenge.hex()}"


def test_multiples_of_g_on_top_of_the_last_field_are_refused(outputs: list[tuple[bytes, bytes]]) -> None:
    last = 2 + BITS // 16 + BITS // 32 + 1
    for challenge, output in outputs:
        for value in range(256):
            changed = output[:last] + bytes([value]) + output[last + 1 :]
            assert vdf.verify(challenge, BITS, ITERATIONS, changed) == (value == output[last])


def test_the_proof_is_no_part_of_the_beacon(outputs: list[tuple[bytes, bytes]]) -> None:
    (_, one), (_, other) = outputs[:2]
    assert beacon_value(one) == beacon_value(one[: vdf.OUTPUT] + bytes(vdf.OUTPUT)) != beacon_value(other)


@pytest.mark.parametrize("bits", [256, 384, 512, 768, 1024])
def test_what_the_library_writes_is_canonical(bits: int) -> None:
    for challenge in range(20):
        output = vdf.prove(challenge.to_bytes(32, "big"), bits, ITERATIONS)
        assert vdf.verify(challenge.to_bytes(32, "big"), bits, ITERATIONS, output)


def test_what_is_no_output() -> None:
    for output in (b"", bytes(199), bytes(200), bytes([255]) * 200, bytes([0, 255]) + bytes(198)):
        assert not vdf.verify(bytes(32), BITS, ITERATIONS, output)
