"""Canonical encoding: MessagePack arrays with a fixed field order, one encoding for one value.

A record is a frozen dataclass whose annotations carry the limits. `decode` refuses anything that does not
re-encode to the same bytes; lengths are checked against the limits before a value is built. Source: protocol L1.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgpack

from chain.errors import BadEncoding

U64_MAX = 2**64 - 1
AMOUNT_MAX = 2**63 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Limits on the length of bytes, str or tuple; `exact` when both are equal."""

    least: int
    most: int


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Inclusive limits of an integer."""

    least: int
    most: int


Hash = Annotated[bytes, Size(32, 32)]
PublicKey = Annotated[bytes, Size(32, 32)]
Address = Annotated[bytes, Size(20, 20)]
Signature = Annotated[bytes, Size(64, 64)]
U8 = Annotated[int, Range(0, 255)]
U32 = Annotated[int, Range(0, 2**32 - 1)]
U64 = Annotated[int, Range(0, U64_MAX)]
Amount = Annotated[int, Range(0, AMOUNT_MAX)]

R = TypeVar("R", bound="Record")
Unpack = Callable[[Any, str], Any]


class Record:
    """Base of everything that is hashed, stored or sent. Subclasses are frozen dataclasses with slots."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Canonical bytes of this record."""
        return typing.cast(bytes, msgpack.packb(_pack(self), use_bin_type=True))

    @classmethod
    def decode(cls: type[R], data: bytes, most: int = 1 << 20) -> R:
        """Parse canonical bytes.

        Raises BadEncoding where `data` is longer than `most`, malformed, outside a limit, or not canonical.
        """
        if len(data) > most:
            raise BadEncoding(f"{cls.__name__}: {len(data)} bytes, the limit is {most}")
        try:
            raw = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True, max_ext_len=0, max_map_len=0)
        except Exception as error:  # msgpack raises many unrelated types on hostile input
            raise BadEncoding(f"{cls.__name__}: not MessagePack ({type(error).__name__})") from error
        record: R = _reader(cls)(raw, cls.__name__)
        if record.encode() != data:
            raise BadEncoding(f"{cls.__name__}: encoding is not canonical")
        return record


def _pack(value: Any) -> Any:
    if isinstance(value, Record):
        return [_pack(getattr(value, name)) for name in _field_names(type(value))]
    if isinstance(value, tuple):
        return [_pack(item) for item in value]
    return value


@functools.cache
def _field_names(cls: type[Record]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(typing.cast(Any, cls)))


@functools.cache
def _reader(annotation: Any) -> Unpack:
    """Build, once per type, the function that turns unpacked MessagePack into a checked value."""
    limit: Any = None
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *metadata = typing.get_args(annotation)
        limit = metadata[0]
        annotation, origin = base, typing.get_origin(base)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return _record_reader(annotation)
    if origin is tuple:
        return _tuple_reader(typing.get_args(annotation)[0], limit or Size(0, 1 << 16))
    if annotation is bool:
        return functools.partial(_read_exact, bool, None)
    if annotation is int:
        return functools.partial(_read_int, limit or Range(0, U64_MAX))
    if annotation in (bytes, str):
        return functools.partial(_read_exact, annotation, limit or Size(0, 1 << 20))
    raise TypeError(f"no canonical encoding for {annotation!r}")


def _read_int(limit: Range, value: Any, where: str) -> int:
    if type(value) is not int or not limit.least <= value <= limit.most:
        raise BadEncoding(f"{where}: expected an integer from {limit.least} to {limit.most}")
    return value


def _read_exact(kind: type, limit: Size | None, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise BadEncoding(f"{where}: expected {kind.__name__}")
    if limit is not None and not limit.least <= len(typing.cast(bytes, value)) <= limit.most:
        raise BadEncoding(f"{where}: length outside {limit.least} to {limit.most}")
    return value


def _tuple_reader(item: Any, limit: Size) -> Unpack:
    read_item = _reader(item)

    def read(value: Any, where: str) -> Any:
        if type(value) is not list or not limit.least <= len(value) <= limit.most:
            raise BadEncoding(f"{where}: expected a list of {limit.least} to {limit.most} items")
        return tuple(read_item(element, where) for element in value)

    return read


def _record_reader(cls: type[Record]) -> Unpack:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = _field_names(cls)
    readers = [(name, f"{cls.__name__}.{name}", _reader(hints[name])) for name in names]

    def read(value: Any, where: str) -> Any:
        if type(value) is not list or len(value) != len(readers):
            raise BadEncoding(f"{where}: expected a list of {len(readers)} fields")
        return cls(**{name: reader(part, label) for (name, label, reader), part in zip(readers, value, strict=True)})

    return read

