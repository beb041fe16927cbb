"""What a miner is doing, for a screen or a log."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SlotState:
    """One training. `text` describes the architecture; empty while the slot waits."""

    text: str = ""
    genotype: bytes = b""
    step: int = 0
    steps: int = 0


@dataclass(slots=True)
class MinerState:
    """Everything a screen needs. `on_change` is called after every change."""

    on_change: Callable[[MinerState], None] = lambda state: None
    url: str = ""
    pool: str = ""
    connected: bool = False
    trouble: str = ""
    epoch: int | None = None
    task: str = ""
    slots: dict[int, SlotState] = field(default_factory=dict)
    trained: int = 0
    waiting: int = 0
    accepted: int = 0
    points: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    best_correct: int = 0
    best_total: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))

    def say(self, text: str, *, warn: bool = False) -> None:
        """Log a line, and keep it for the screen."""
        log.log(logging.WARNING if warn else logging.INFO, "%s", text)
        self.lines.append(text)
        self.on_change(self)

    def training(self, slot: int, text: str = "", genotype: bytes = b"", steps: int = 0) -> None:
        """A slot begins to train, or without arguments waits."""
        self.slots[slot] = SlotState(text, genotype, 0, steps)
        self.on_change(self)

    def stepped(self, slot: int, step: int) -> None:
        """A slot has done `step` steps."""
        self.slots[slot].step = step
        self.on_change(self)

    def finished(self, correct: int, total: int) -> None:
        """A training ended with this validation score."""
        self.trained += 1
        if correct > self.best_correct or not self.best_total:
            self.best_correct, self.best_total = correct, total
        self.on_change(self)
