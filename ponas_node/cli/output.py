"""Printing. Much of what is printed was written by strangers, so control characters never reach the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def clean(text: str) -> str:
    """`text` on one line, with control characters and the like written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_json(value: Any) -> None:
    """JSON for programs; everything beyond ASCII is escaped."""
    print(json.dumps(value, indent=2, ensure_ascii=True))


def print_facts(facts: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
    """Names and values in two columns; what is None is left out."""
    pairs = list(facts.items() if isinstance(facts, Mapping) else facts)
    shown = [(name, show(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


def print_rows(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """A table with aligned columns."""
    lines = [head, *(tuple(show(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def show(value: Any) -> str:
    """One value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(value))
