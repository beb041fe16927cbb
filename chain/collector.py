"""The garbage collector. Blocks, transactions and state hold no cycles, and it goes through all of them for nothing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def collect_less() -> None:
    """For a process that holds a ledger: look for cycles a hundred times less often."""
    gc.set_threshold(100_000, 20, 100)


def collect_young() -> None:
    """For a process that must not stand still: look at new objects soon, a few at a time, and at each of them once.

    Cycles of objects that stayed for longer wait for `gc.collect`. The number is of objects made less those freed, old
    ones too: where they come and go, many more are new than it says.
    """
    never = 2**31 - 1
    gc.set_threshold(1000, never, never)


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Do not look for cycles at all meanwhile."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
