"""The verifiable delay function: Wesolowski's proof over repeated squaring in a class group, computed by chiavdf.

Source: protocol C6.
"""

from __future__ import annotations

import chiavdf

_GENERATOR = b"\x08" + bytes(99)  # the form (2, 1, c), as chiavdf serialises it


def prove(challenge: bytes, discriminant_bits: int, iterations: int) -> bytes:
    """200 bytes, output and proof, over a 32-byte challenge. Takes as long as `iterations` squarings."""
    blob: bytes = chiavdf.prove(challenge, _GENERATOR, discriminant_bits, iterations, "")
    return blob


def verify(challenge: bytes, discriminant_bits: int, iterations: int, output: bytes) -> bool:
    """Whether `output` (200 bytes) is what `prove` gives. Run it where a crash of the native code does no harm."""
    if len(output) != 200:
        return False
    discriminant = chiavdf.create_discriminant(challenge, discriminant_bits)
    try:
        return bool(chiavdf.verify_wesolowski(discriminant, _GENERATOR, output[:100], output[100:], iterations))
    except (ValueError, RuntimeError):
        return False
