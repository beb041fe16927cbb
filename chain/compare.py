"""Says in words in what two databases of one chain differ: the one that is there, and the one that it should be."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from chain import layout
from chain.store import Store

_SHOWN = 32  # bytes of a value that are shown

_NAMES = {
    layout.BLOCK: "block",
    layout.HEADER: "header",
    layout.HEIGHT: "the block at height",
    layout.STATE: "state entry",
    layout.NODE: "tree node",
    layout.TRANSACTION: "index entry of transaction",
    layout.HISTORY: "index entry of address",
    layout.OWNER: "index entry of owner",
    layout.LISTED: "entry of the rules' index",
}

Pairs = Iterator[tuple[bytes, bytes]]


def differences(stored: Store, expected: Store) -> Iterator[str]:
    """One sentence for every key in which `stored` is not what `expected` says; nothing where they agree."""
    for prefix, name in _NAMES.items():
        for key, found, wanted in _unequal(stored.raw_iterate(prefix), expected.raw_iterate(prefix)):
            yield _sentence(f"{name} {_key_text(prefix, key[1:])}", found, wanted)
    yield from _undo_differences(stored, expected)
    if stored.tip != expected.tip:
        yield _sentence("the tip", stored.tip, expected.tip)


def _unequal(left: Pairs, right: Pairs) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Keys whose values differ in two sequences that are sorted by key, with both values."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            yield a[0], a[1], None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield b[0], None, b[1]
            b = next(right, None)
        else:
            if a[1] != b[1]:
                yield a[0], a[1], b[1]
            a, b = next(left, None), next(right, None)


def _undo_differences(stored: Store, expected: Store) -> Iterator[str]:
    """Undo records by content, for their order carries no meaning. One that is there too long does no harm."""
    for key, wanted in expected.raw_iterate(layout.UNDO):
        height = int.from_bytes(key[1:], "big")
        found = stored.raw_get(key)
        if found is None:
            yield f"the undo record of height {height} is missing"
        elif found != wanted and _undo(found) != _undo(wanted):
            yield f"the undo record of height {height} does not restore the state before it"


def _undo(data: bytes) -> dict[bytes, bytes | None] | None:
    try:
        return dict(msgpack.unpackb(data))
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def _sentence(what: str, found: bytes | None, wanted: bytes | None) -> str:
    if found is None:
        return f"{what} is missing, it should hold {_value_text(wanted)}"
    if wanted is None:
        return f"{what} should not be there, it holds {_value_text(found)}"
    return f"{what} holds {_value_text(found)}, it should hold {_value_text(wanted)}"


def _value_text(value: bytes | None) -> str:
    if not value:
        return "nothing"
    return value.hex() if len(value) <= _SHOWN else f"{value[:_SHOWN].hex()}... ({len(value)} bytes)"


def _key_text(prefix: bytes, key: bytes) -> str:
    if prefix == layout.HEIGHT:
        return str(int.from_bytes(key, "big"))
    if prefix == layout.STATE:
        return key.decode() if key.isascii() and key.decode().isprintable() else f"{key[:4]!r} {key[4:].hex()}"
    return key.hex()
