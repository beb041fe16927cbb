"""Whether this node follows its network live, or has yet to find out which branch the network is on.

A node that was away for more than `max_rollback` slots is *joining*, from the tip that it had: what was final there
stays, and of branches that fork later the denser one counts (protocol L15). It is live again once it has had a recent
tip for `max_rollback` slots on end: time enough for its other peers to show it a denser branch.
"""

from __future__ import annotations

from typing import Protocol

_ANCHOR = b"anchor"


class Records(Protocol):
    """Where the anchor is kept, so that a restart does not make a live node of a joining one."""

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value."""
        ...

    def delete(self, key: bytes) -> None:
        """Forget a value."""
        ...


class Following:
    """Decides from slots alone. `anchor` is the slot of the tip from which the node joins; None where it is live."""

    def __init__(self, max_rollback: int, kept: Records) -> None:
        self._limit = max_rollback
        self._kept = kept
        stored = kept.get(_ANCHOR)
        self.anchor = None if stored is None else int.from_bytes(stored, "big")
        self._recent_since: int | None = None

    def look(self, slot: int, tip_slot: int) -> int | None:
        """Take note of the clock's slot and the tip's; returns the anchor."""
        if slot - tip_slot > self._limit:
            self._recent_since = None
            if self.anchor is None:
                self._keep(tip_slot)
        elif self.anchor is not None:
            if self._recent_since is None or slot < self._recent_since:
                self._recent_since = slot
            elif slot - self._recent_since >= self._limit:
                self._keep(None)
        return self.anchor

    def _keep(self, anchor: int | None) -> None:
        self.anchor, self._recent_since = anchor, None
        if anchor is None:
            self._kept.delete(_ANCHOR)
        else:
            self._kept.put(_ANCHOR, anchor.to_bytes(8, "big"))
