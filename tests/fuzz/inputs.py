"""Inputs of the fuzzers: values within the limits of their type, and bytes that were a value's once."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import random
import sys
import typing
from collections.abc import Callable
from typing import Any

import msgpack

from chain.encoding import U64_MAX, Range, Record, Size, _is_record, _parts

PACKAGES = ("chain", "consensus", "pool", "ponas_node")
_INTEGERS = (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, U64_MAX, -1, -33)
_HEADS = (
    b"\x90", b"\x91", b"\x9f", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x01\x00\x00", b"\xc4\xff",
    b"\xc5\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\x80", b"\xdf\xff\xff\xff\xff", b"\xc7\xff\x01", b"\xd4\x01\x00",
    b"\xc0", b"\xc1", b"\xc2", b"\xcb", b"\xcf", b"\xd3", b"\xbf", b"\xdb\xff\xff\xff\xff",
)  # fmt: skip

Draw = Callable[[random.Random], Any]


def record_types() -> list[type[Record]]:
    """Every record of the program, found by importing all of it."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            importlib.import_module(module.name)
    return sorted(filter(_is_ours, Record.__subclasses__()), key=lambda cls: (cls.__module__, cls.__name__))


def _is_ours(cls: type[Record]) -> bool:
    """Not of a test, and not what a dataclass with slots was before it had them."""
    return cls.__module__.split(".")[0] in PACKAGES and getattr(sys.modules[cls.__module__], cls.__name__) is cls


@functools.cache
def drawer(annotation: Any) -> Draw:
    """Draws values of a type, often at the ends of its limits; lists and bytes are short as a rule."""
    base, limit = _parts(annotation)
    if _is_record(base):
        hints = typing.get_type_hints(base, include_extras=True)
        parts = [drawer(hints[field.name]) for field in dataclasses.fields(base)]
        return lambda dice: base(*[part(dice) for part in parts])
    if typing.get_origin(base) is tuple:
        item, size = drawer(typing.get_args(base)[0]), limit or Size(0, 8)
        return lambda dice: tuple([item(dice) for _ in range(_length(dice, size, 3))])
    if base is bool:
        return lambda dice: dice.random() < 0.5
    if base is int:
        return functools.partial(_integer, limit=limit or Range(0, U64_MAX))
    size = limit or Size(0, 300)
    if base is str:
        return lambda dice: "".join(dice.choices("az-09 \0é宇😀", k=_length(dice, size, 12)))
    return lambda dice: dice.randbytes(_length(dice, size, 40))


def _length(dice: random.Random, size: Size, usual: int) -> int:
    if size.least == size.most:
        return size.least
    pick = dice.random()
    if pick < 0.02 and size.most <= 300:
        return size.most
    return size.least if pick < 0.3 else min(size.most, size.least + dice.randrange(usual + 1))


def _integer(dice: random.Random, limit: Range) -> int:
    pick = dice.random()
    if pick < 0.2:
        return limit.least if pick < 0.1 else limit.most
    return min(limit.most, max(limit.least, dice.getrandbits(dice.randrange(1, 65))))


def mutated(dice: random.Random, raw: bytes) -> bytes:
    """`raw` with one or a few changes: to its bytes, to the values in it, or to how they are written."""
    pick = dice.random()
    if pick < 0.7:
        return _changed_bytes(dice, raw)
    try:
        value = msgpack.unpackb(raw)
    except Exception:
        return _changed_bytes(dice, raw)
    if pick < 0.9:
        return msgpack.packb(_changed_value(dice, value, 0))
    return _wasteful(dice, value)


def _changed_bytes(dice: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        at = dice.randrange(len(data) + 1)
        how = dice.randrange(7)
        if how == 0 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif how == 1 and at < len(data):
            data[at] = dice.randrange(256)
        elif how == 2:
            data[at : at + dice.randrange(1, 9)] = b""
        elif how == 3:
            data[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif how == 4:
            data[at : at + dice.randrange(3)] = dice.choice(_HEADS) * dice.choice((1, 1, 1, 40))
        elif how == 5:
            start = dice.randrange(len(data) + 1)
            data[at:at] = data[start : start + dice.randrange(1, 80)]
        else:
            del data[at:]
    return bytes(data)


def _changed_value(dice: random.Random, value: Any, depth: int) -> Any:
    """One part of `value` replaced, removed, doubled or put into a list."""
    if isinstance(value, list) and value and dice.random() < 0.85:
        items = list(value)
        at = dice.randrange(len(items))
        how = dice.random()
        if how < 0.8:
            items[at] = _changed_value(dice, items[at], depth + 1)
        elif how < 0.9:
            del items[at]
        else:
            items[at:at] = [items[at]] * dice.choice((1, 1, 300))
        return items
    if isinstance(value, bytes) and dice.random() < 0.7:
        return _changed_bytes(dice, value)
    if isinstance(value, int) and not isinstance(value, bool) and dice.random() < 0.7:
        return dice.choice(_INTEGERS)
    others = (None, True, 0, -1, 1.0, b"", "", [], {}, [value], [[[[[value]]]]], "é" * 40, msgpack.ExtType(1, b"x"))
    return dice.choice(others)


def _wasteful(dice: random.Random, value: Any) -> bytes:
    """`value` written in one of the longer ways that MessagePack has."""
    wide = dice.random() < 0.1
    if isinstance(value, list):
        head = b"\xdc" + len(value).to_bytes(2, "big") if wide else msgpack.Packer().pack_array_header(len(value))
        return head + b"".join([_wasteful(dice, item) for item in value])
    if isinstance(value, bytes) and wide:
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and wide:
        return b"\xcf" + value.to_bytes(8, "big")
    return msgpack.packb(value)
