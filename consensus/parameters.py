"""Parameters of the consensus, and the arithmetic of slots and epochs. Source: protocol C1 to C3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from chain.encoding import U32, U64, Amount, Record

LONGEST_WINDOW = 4096  # groups of seats, of those that are active and of those that are pending


class Phase(Enum):
    """What an epoch is doing at a slot."""

    COMMIT = "commit"
    DELAY = "delay"
    REVEAL = "reveal"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True)
class ConsensusParameters(Record):
    """Every number the nodes of a network must agree on, beyond the ledger's. Offsets count slots of an epoch."""

    genesis_time: U64  # Unix time of slot 0, in milliseconds
    slot_milliseconds: U32
    epoch_slots: U32
    commit_close: U32
    reveal_open: U32
    reveal_close: U32
    beacon_grace: U32  # slots after reveal_open in which the beacon may still arrive
    seats: U32  # seats that one competition gives
    seat_epochs: U32  # competitions that a seat lives for
    rescue_slots: U32  # after so many empty slots the bootstrap seats may mint as well
    commits_per_epoch: U32
    commit_leaves: U32
    commit_deposit: Amount
    reveals_per_block: U32
    payout_entries: U32
    vdf_discriminant_bits: U32
    vdf_iterations: U64
    max_model_bytes: U32
    max_dataset_bytes: U32
    max_tasks: U32  # funded tasks that may wait at a time
    reveal_bond: Amount  # in escrow for each result, until it can no longer be challenged; of a seat, until that ends
    challenge_blocks: U32  # in which a result can be challenged, from settlement or since others came in
    challenge_deposit: Amount  # lost by whoever challenges a true result
    challenges_per_block: U32
    max_segment_macs: U64  # what the replay of one segment may cost; see consensus/tasks.py
    max_state_bytes: U32  # of a training state that a challenge names
    key_slots: U32  # slots after commit_close in which the key of a sealed test split can be shown
    split_deposit: Amount  # in escrow for each sealed test split, lost where its key is not shown in time

    def check(self) -> None:
        """Raise ValueError where the numbers do not fit together."""
        if not 0 < self.commit_close < self.reveal_open < self.reveal_close < self.epoch_slots:
            raise ValueError("need 0 < commit_close < reveal_open < reveal_close < epoch_slots")
        if not 0 < self.key_slots < self.reveal_open - self.commit_close:
            raise ValueError("key_slots must be at least 1 and end before reveal_open")
        if self.reveal_open + self.beacon_grace >= self.reveal_close:
            raise ValueError("beacon_grace must end before reveal_close")
        if self.slot_milliseconds < 50:
            raise ValueError("a slot lasts at least 50 milliseconds")
        if not 256 <= self.vdf_discriminant_bits <= 1024 or self.vdf_discriminant_bits % 8:
            raise ValueError("vdf_discriminant_bits must be a multiple of 8 from 256 to 1024")
        for name in (
            "seats", "seat_epochs", "commit_leaves", "payout_entries", "vdf_iterations", "reveals_per_block",
            "challenge_blocks", "challenges_per_block", "max_segment_macs", "max_state_bytes",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if max(self.seat_epochs, self.challenge_blocks) > LONGEST_WINDOW:
            raise ValueError(f"seat_epochs and challenge_blocks must be at most {LONGEST_WINDOW}")

    @property
    def results_per_epoch(self) -> int:
        """The most results that one epoch can have."""
        return self.reveals_per_block * (self.reveal_close - self.reveal_open)

    def epoch_of(self, slot: int) -> int:
        """Epoch to which a slot belongs."""
        return slot // self.epoch_slots

    def offset(self, slot: int) -> int:
        """Slots since the start of the slot's epoch."""
        return slot % self.epoch_slots

    def start(self, epoch: int) -> int:
        """First slot of an epoch."""
        return epoch * self.epoch_slots

    def boundary_slot(self, epoch: int, sealed: bool) -> int:
        """First slot whose block fixes the boundary of an epoch: with a sealed test split, once its key is out."""
        return self.start(epoch) + self.commit_close + (self.key_slots if sealed else 0)

    def challenge_close(self, height: int) -> int:
        """Height of the first block that cannot challenge what has stood unchanged since the block at `height`."""
        return height + self.challenge_blocks

    def phase(self, slot: int) -> Phase:
        """Phase of the slot's epoch."""
        offset = self.offset(slot)
        if offset < self.commit_close:
            return Phase.COMMIT
        if offset < self.reveal_open:
            return Phase.DELAY
        return Phase.REVEAL if offset < self.reveal_close else Phase.SETTLE

    def slot_at(self, now: float) -> int:
        """Slot at Unix time `now` in seconds; negative before genesis."""
        return (int(now * 1000) - self.genesis_time) // self.slot_milliseconds

    def time_of(self, slot: int) -> float:
        """Unix time in seconds at which a slot starts."""
        return (self.genesis_time + slot * self.slot_milliseconds) / 1000
