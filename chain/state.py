"""State: an ordered map of bytes to bytes, seen through overlays that can be merged or thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

_UNCHANGED: Any = object()


class StateView(Protocol):
    """Read access to a state."""

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        ...


class EmptyState:
    """The state before genesis."""

    def get(self, key: bytes) -> bytes | None:
        """Nothing is there."""
        return None


class Overlay:
    """Changes on top of a base view. Reads fall through; nothing below changes until `merge_into`."""

    __slots__ = ("base", "changes")

    def __init__(self, base: StateView) -> None:
        self.base = base
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Value at `key`, or None."""
        value = self.changes.get(key, _UNCHANGED)
        return self.base.get(key) if value is _UNCHANGED else value

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key`."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`."""
        self.changes[key] = None

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Set or, where None, remove many keys."""
        self.changes.update(changes)

    def merge_into(self, target: Overlay) -> None:
        """Move every change to `target`, which must be this overlay's base."""
        target.changes.update(self.changes)
        self.changes = {}
