"""What a miner is doing, for a screen or a log."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pool.messages import Standing

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
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    best_correct: int = 0
    best_total: int = 0
    best_text: str = ""
    watched: bool = False  # somebody looks: ask the pool for what only a screen shows
    standing: Standing | None = None
    changed_at: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))

    def say(self, text: str, *, warn: bool = False) -> None:
        """Log a line, and keep it for the screen."""
        log.log(logging.WARNING if warn else logging.INFO, "%s", text)
        self.lines.append(text)
        self.on_change(self)

    def connect(self, connected: bool) -> None:
        """The connection to the pool is there, or not."""
        if connected != self.connected:
            self.connected, self.changed_at = connected, time.monotonic()
        self.on_change(self)

    def alone_for(self) -> float:
        """Seconds without a pool."""
        return 0.0 if self.connected else time.monotonic() - self.changed_at

    def stand(self, standing: Standing) -> None:
        """The pool says where the miner stands."""
        self.standing = standing
        self.on_change(self)

    def training(self, slot: int, text: str = "", genotype: bytes = b"", steps: int = 0) -> None:
        """A slot begins to train, or without arguments waits."""
        self.slots[slot] = SlotState(text, genotype, 0, steps)
        self.on_change(self)

    def stepped(self, slot: int, step: int) -> None:
        """A slot has done `step` steps."""
        self.slots[slot].step = step
        self.on_change(self)

    def finished(self, correct: int, total: int, text: str) -> None:
        """The training of the architecture `text` ended with this validation score."""
        self.trained += 1
        if correct > self.best_correct or not self.best_total:
            self.best_correct, self.best_total, self.best_text = correct, total, text
        self.on_change(self)
