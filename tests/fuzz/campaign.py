"""Runs a fuzzer: a seed that is printed, a number of inputs, limits on the time and memory that each may take.

`PONAS_FUZZ_SEED=N` replays a run; the message of a failure has the input itself, too.
"""

from __future__ import annotations

import os
import random
import signal
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench.machine import memory

SECONDS = 2.0  # processor time that one input may take
MEMORY = 96 << 20  # bytes that one input may take at its worst: a block of 1 MiB that is nothing but lists takes 76 MiB
GROWTH = 192 << 20  # bytes that the process may grow by in a whole run
_ROUND = 500  # inputs that share a random generator
_TRACED = 20  # of so many rounds one is traced, which takes several times as long

Trial = Callable[[random.Random, list[Any]], None]
"""Makes one input, keeps it in the list and tries it. A fault is any exception."""


class Slow(Exception):
    """An input took longer than it may."""


def campaign(name: str, trials: int, trial: Trial) -> None:
    """Call `trial` so often; what it raises tells the seed and the input."""
    seed = int(os.environ.get("PONAS_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    print(f"{name}: {trials} inputs, replay with PONAS_FUZZ_SEED={seed}")
    before = memory("VmRSS")
    previous = signal.signal(signal.SIGVTALRM, _too_slow)
    tried: list[Any] = []
    peak = 0
    try:
        for number in range(-(-trials // _ROUND)):
            dice = random.Random(f"{name} {seed} {number}")
            peak = max(peak, _round(dice, min(_ROUND, trials - number * _ROUND), number % _TRACED == 0, trial, tried))
    except BaseException as error:
        error.add_note(f"{name}: PONAS_FUZZ_SEED={seed}, round {number}, input {tried!r}")
        raise
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
    grown = memory("VmRSS") - before
    print(f"{name}: the worst traced input took {peak / 2**20:.1f} MiB, the process grew by {grown / 2**20:.0f} MiB")
    assert grown < GROWTH


def _round(dice: random.Random, count: int, traced: bool, trial: Trial, tried: list[Any]) -> int:
    """One round; returns the most memory that an input took, where it was traced."""
    peak = 0
    if traced:
        tracemalloc.start()
    try:
        for _ in range(count):
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            tried.clear()
            if traced:
                tracemalloc.reset_peak()
                start = tracemalloc.get_traced_memory()[0]
            trial(dice, tried)
            if traced:
                peak = max(peak, tracemalloc.get_traced_memory()[1] - start)
                assert peak < MEMORY
    finally:
        tracemalloc.stop()
    return peak


def _too_slow(*_: Any) -> None:
    raise Slow(f"an input took more than {SECONDS} s")
