"""The garbage collector. Blocks, transactions and state hold no cycles, and it goes through all of them for nothing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def collect_less() -> None:
    """For a process that holds a ledger: look for cycles a hundred times less often."""
    gc.set_threshold(100_000, 20, 100)


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
