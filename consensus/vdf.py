"""The verifiable delay function: Wesolowski's proof over repeated squaring in a class group, computed by chiavdf.

Source: protocol C6.
"""

from __future__ import annotations

import chiavdf

OUTPUT = 100  # bytes of the output; as many of its proof follow
_FLAGS = 4  # of the first byte of a form: what is below are two signs, the others name special forms
_GENERATOR = b"\x08" + bytes(99)  # the form (2, 1, c), as chiavdf serialises it


def prove(challenge: bytes, discriminant_bits: int, iterations: int) -> bytes:
    """200 bytes, output and proof, over a 32-byte challenge. Takes as long as `iterations` squarings."""
    blob: bytes = chiavdf.prove(challenge, _GENERATOR, discriminant_bits, iterations, "")
    return blob


def verify(challenge: bytes, discriminant_bits: int, iterations: int, output: bytes) -> bool:
    """Whether `output` (200 bytes) is what `prove` gives. Run it where a crash of the native code does no harm."""
    if len(output) != 2 * OUTPUT or not is_canonical(output[:OUTPUT], discriminant_bits):
        return False
    discriminant = chiavdf.create_discriminant(challenge, discriminant_bits)
    try:
        return bool(chiavdf.verify_wesolowski(discriminant, _GENERATOR, output[:100], output[100:], iterations))
    except (ValueError, RuntimeError):
        return False


def is_canonical(form: bytes, discriminant_bits: int) -> bool:
    """Whether the serialised form (100 bytes) has the fields that the library would write.

    The library reads one form from several encodings: of the last two fields, g and b mod g, the second may be written
    with any multiple of g on top. Who proves could choose among these, and so choose the beacon.
    """
    width = form[1] + 1  # bytes of g, and of b mod g
    bits = discriminant_bits
    end = 2 + bits // 16 + bits // 32 + 2  # of everything: each byte more of g is one less of the two fields before
    t_end = end - 2 * width
    if form[0] >= _FLAGS or width > bits // 32 or any(form[end:]):
        return False
    t_start = t_end - (bits // 32 - form[1])
    t = int.from_bytes(form[t_start:t_end], "little")
    g = int.from_bytes(form[t_end : t_end + width], "little")
    rest = int.from_bytes(form[t_end + width : end], "little")
    return rest < g and (g.bit_length() + 7) // 8 == width and (t > 0 or form[0] < 2)
