"""Canonical encoding: MessagePack arrays with a fixed field order, one encoding for one value.

A record is a frozen dataclass whose annotations carry the limits. `decode` refuses anything that does not
re-encode to the same bytes; lengths are checked against the limits before a value is built. Source: protocol L1.
"""

from __future__ import annotations

import dataclasses
import operator
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

_ANY_LENGTH = Size(0, 1 << 16)

R = TypeVar("R", bound="Record")
Unpack = Callable[[Any, str], Any]
Pack = Callable[[Any], Any]

_PACK: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True).pack


class Record:
    """Base of everything that is hashed, stored or sent. Subclasses are frozen dataclasses with slots."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Canonical bytes of this record."""
        cls = type(self)
        return _PACK((_PACKERS.get(cls) or _packer_of(cls))(self))

    @classmethod
    def decode(cls: type[R], data: bytes, most: int = 1 << 20) -> R:
        """Parse canonical bytes.

        Raises BadEncoding where `data` is longer than `most`, malformed, outside a limit, or not canonical.
        """
        if len(data) > most:
            raise BadEncoding(f"{cls.__name__}: {len(data)} bytes, the limit is {most}")
        reader = _READERS.get(cls) or _reader(cls)
        try:
            # A claimed length takes memory before the items are there, so no list may claim more than the type holds.
            raw = msgpack.unpackb(data, max_array_len=_WIDEST[cls], max_ext_len=0, max_map_len=0)
        except Exception as error:  # msgpack raises many unrelated types on hostile input
            raise BadEncoding(f"{cls.__name__}: not MessagePack ({type(error).__name__})") from error
        record: R = reader(raw, cls.__name__)
        if _PACK(raw) != data:  # a reader takes values over as they are, so this is what `record` encodes to
            raise BadEncoding(f"{cls.__name__}: encoding is not canonical")
        return record


# Built once per type, on first use. A reader turns unpacked MessagePack into a checked value, a packer turns a value
# into what MessagePack packs (None: the value packs as it is). _WIDEST: the longest list that a record may hold.
_READERS: dict[Any, Unpack] = {}
_PACKERS: dict[Any, Pack] = {}
_WIDEST: dict[Any, int] = {}
_QUICK: dict[Any, Callable[[list[Any]], Any]] = {}


def quick_reader(cls: type[R]) -> Callable[[Callable[[list[Any]], R | None]], Callable[[list[Any]], R | None]]:
    """Read `cls` from its fields, as many as it has, by the decorated function first, written out because it is hot.

    It returns None where a field is not plainly right; then the reader that is made of the annotations decides.
    """

    def register(read: Callable[[list[Any]], R | None]) -> Callable[[list[Any]], R | None]:
        _QUICK[cls] = read
        return read

    return register


def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _parts(annotation: Any) -> tuple[Any, Any]:
    """The bare type and the limit of an annotation."""
    if typing.get_origin(annotation) is Annotated:
        base, limit, *_ = typing.get_args(annotation)
        return base, limit
    return annotation, None


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Record)


def _packer(annotation: Any) -> Pack | None:
    base, _ = _parts(annotation)
    if typing.get_origin(base) is tuple:
        item = _packer(typing.get_args(base)[0])
        return None if item is None else lambda value: [item(element) for element in value]
    return _packer_of(base) if _is_record(base) else None


def _packer_of(cls: Any) -> Pack:
    if cls not in _PACKERS:
        hints = typing.get_type_hints(cls, include_extras=True)
        _PACKERS[cls] = _record_packer([(name, _packer(hints[name])) for name in _field_names(cls)])
    return _PACKERS[cls]


def _record_packer(fields: list[tuple[str, Pack | None]]) -> Pack:
    names = [name for name, _ in fields]
    if len(names) > 1 and all(sub is None for _, sub in fields):
        return operator.attrgetter(*names)  # a flat record: much faster, and a tuple packs as a list does

    def pack(record: Any) -> list[Any]:
        return [getattr(record, name) if sub is None else sub(getattr(record, name)) for name, sub in fields]

    return pack


def _reader(annotation: Any) -> Unpack:
    base, limit = _parts(annotation)
    if _is_record(base):
        if base not in _READERS:
            _WIDEST[base] = _widest(base)
            _READERS[base] = _record_reader(base, _QUICK.get(base))
        return _READERS[base]
    if typing.get_origin(base) is tuple:
        return _tuple_reader(typing.get_args(base)[0], limit or _ANY_LENGTH)
    if base is bool:
        return _read_bool
    if base is int:
        return _int_reader(limit or Range(0, U64_MAX))
    if base in (bytes, str):
        return _sized_reader(base, limit or Size(0, 1 << 20))
    raise TypeError(f"no canonical encoding for {annotation!r}")


def _widest(annotation: Any) -> int:
    base, limit = _parts(annotation)
    if typing.get_origin(base) is tuple:
        return max((limit or _ANY_LENGTH).most, _widest(typing.get_args(base)[0]))
    if not _is_record(base):
        return 0
    hints = typing.get_type_hints(base, include_extras=True)
    names = _field_names(base)
    return max([len(names), *(_widest(hints[name]) for name in names)])


def _read_bool(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise BadEncoding(f"{where}: expected bool")
    return value


def _int_reader(limit: Range) -> Unpack:
    least, most = limit.least, limit.most

    def read(value: Any, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise BadEncoding(f"{where}: expected an integer from {least} to {most}")
        return value

    return read


def _sized_reader(kind: type, limit: Size) -> Unpack:
    least, most = limit.least, limit.most
    measure: Callable[[Any], int] = len

    def read(value: Any, where: str) -> Any:
        if type(value) is not kind:
            raise BadEncoding(f"{where}: expected {kind.__name__}")
        if not least <= measure(value) <= most:
            raise BadEncoding(f"{where}: length outside {least} to {most}")
        return value

    return read


def _tuple_reader(item: Any, limit: Size) -> Unpack:
    read_item = _reader(item)

    def read(value: Any, where: str) -> Any:
        if type(value) is not list or not limit.least <= len(value) <= limit.most:
            raise BadEncoding(f"{where}: expected a list of {limit.least} to {limit.most} items")
        return tuple([read_item(element, where) for element in value])

    return read


def _record_reader(cls: Any, quick: Callable[[list[Any]], Any] | None) -> Unpack:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = _field_names(cls)
    readers = [_reader(hints[name]) for name in names]
    labels = [f"{cls.__name__}.{name}" for name in names]
    count = len(names)

    def read(value: Any, where: str) -> Any:
        if type(value) is not list or len(value) != count:
            raise BadEncoding(f"{where}: expected a list of {count} fields")
        record = None if quick is None else quick(value)
        return cls(*map(operator.call, readers, value, labels)) if record is None else record

    return read
