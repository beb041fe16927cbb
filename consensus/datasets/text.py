"""Tables from CSV files: one row a sample, one column the label, the others numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import numpy as np

from consensus.datasets.convert import Raw
from consensus.datasets.format import BadDataset

MAX_FIELD = 1000
MAX_COLUMNS = 1 << 16


def read_csv(path: Path, label_column: str | None, max_bytes: int) -> Raw:
    """Comma, semicolon or tab. `label_column`: a name of the first row, or a number from 1 (default: the last column).

    The first row is a heading if a value that should be a number is not. Raises `BadDataset`, with line and column.
    """
    if path.stat().st_size > 8 * max_bytes:
        raise BadDataset(f"{path.name} has {path.stat().st_size} bytes; at most {8 * max_bytes} are read.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataset(f"{path.name} is not text in UTF-8.") from error
    if "\0" in text:
        raise BadDataset(f"{path.name} is not text.")
    rows = _rows(text)
    first = next(rows, None)
    if first is None:
        raise BadDataset(f"{path.name} is empty.")
    _, heading = first
    width = len(heading)
    if not 2 <= width <= MAX_COLUMNS:
        raise BadDataset(f"The first row has {width} columns: a table has at least one of numbers, and the label's.")
    label, headed = _label_index(heading, label_column)
    values: list[list[float]] = []
    labels: list[str] = []
    for line, row in rows if headed else _chain(first, rows):
        if len(row) != width:
            raise BadDataset(f"Line {line} has {len(row)} columns, the first row {width}.")
        if (len(values) + 1) * width > max_bytes:
            raise BadDataset(f"The table has more than {max_bytes} values.")
        labels.append(row[label].strip())
        if not labels[-1]:
            raise BadDataset(f"Line {line} has no label (column {label + 1}).")
        values.append([_number(field, line, at + 1) for at, field in enumerate(row) if at != label])
    if not values:
        raise BadDataset(f"{path.name} has no rows but the heading.")
    return Raw(np.array(values, dtype=np.float64), _labels(labels))


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of the rows that are not empty."""
    start = text[: 1 << 16].partition("\n")[0]
    delimiter = max(",;\t", key=start.count)
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        for row in reader:
            if row and any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise BadDataset(f"Line {reader.line_num} cannot be read: {error}.") from error


def _chain(first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _label_index(heading: list[str], wanted: str | None) -> tuple[int, bool]:
    """The label's column, and whether the first row is a heading."""
    names = [name.strip() for name in heading]
    if wanted is not None and wanted in names and not wanted.isdecimal():
        return names.index(wanted), True
    if wanted is None:
        label = len(names) - 1
    elif wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted[:9]) <= len(names):
        label = int(wanted) - 1
    else:
        raise BadDataset(f"There is no column {wanted[:64]!r}: name one of the first row, or count from 1.")
    return label, any(not _is_number(name) for at, name in enumerate(names) if at != label)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, line: int, column: int) -> float:
    """Python's float is rounded correctly, so it is the same everywhere."""
    try:
        value = float(text)
    except ValueError:
        raise BadDataset(f"Line {line}, column {column} is {text[:40]!r}, not a number.") from None
    if not isfinite(value):
        raise BadDataset(f"Line {line}, column {column} is {text[:40]!r}: every value must be a finite number.")
    return value


def _labels(labels: list[str]) -> np.ndarray:
    """Whole numbers where all are (so that 10 comes after 9), else texts."""
    if all(label.isascii() and label.isdecimal() and len(label) < 16 for label in labels):
        return np.array([int(label) for label in labels], dtype=np.int64)
    return np.array(labels)
