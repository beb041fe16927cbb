"""The garbage collector. Blocks, transactions and state hold no cycles, and it goes through all of them for nothing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def collect_less() -> None:
    """For a process that holds a ledger: look for cycles a hundred times less often."""
    gc.set_threshold(100_000, 20, 100)


def collect_young() -> None:
    """For a process that must not stand still: look at 10,000 new objects at a time, some 10 ms, and at each once.

    Cycles of objects that stayed for longer wait for `gc.collect`.
    """
    never = 2**31 - 1
    gc.set_threshold(10_000, never, never)


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
