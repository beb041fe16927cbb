"""Where the consensus keeps its records in the state, and how they are read and written. Source: protocol C5."""

from __future__ import annotations

from typing import TypeVar

from chain.encoding import Record
from chain.layout import complement
from chain.rules import StateIndex
from chain.state import Overlay, StateView
from consensus.parameters import ConsensusParameters
from consensus.types import (
    BlockCount,
    CommitRecord,
    EpochList,
    EpochRecord,
    HashList,
    Payouts,
    ResultRecord,
    SeatGroup,
    SeatRecord,
    SeatWindow,
    TaskRecord,
)

R = TypeVar("R", bound=Record)

TASK = b"task"
EPOCH = b"epoc"
COMMIT = b"comm"
COMMIT_AT = b"cidx"
RESULT = b"resl"
RESULT_AT = b"ridx"
OPENED = b"open"
BOOTSTRAP_SEAT = b"boot"
CURRENT_EPOCH = b"current-epoch"
LAST_BEACON = b"last-beacon"
WINDOW = b"seat-window"
BOOTSTRAP = b"bootstrap-seats"
FUNDED = b"funded-tasks"
BUILT_IN = b"built-in-tasks"
DUE = b"due"
REVEAL_COUNT = b"reveal-count"
CHALLENGE_COUNT = b"challenge-count"
BONDED = b"bonded-epochs"
OFFENCE = b"offn"

_MOST = 1 << 22


def number(value: int) -> bytes:
    """Fixed-width key part."""
    return value.to_bytes(8, "big")


def read(state: StateView, key: bytes, cls: type[R]) -> R | None:
    """The record at `key`, or None."""
    data = state.get(key)
    return None if data is None else cls.decode(data, _MOST)


def need(state: StateView, key: bytes, cls: type[R]) -> R:
    """The record at `key`, which the rules guarantee to be there."""
    record = read(state, key, cls)
    if record is None:
        raise RuntimeError(f"state has no {cls.__name__} at {key!r}: a fault in the rules or a damaged state")
    return record


def write(state: Overlay, key: bytes, record: Record) -> None:
    """Store a record."""
    state.put(key, record.encode())


def current_epoch(state: StateView) -> EpochRecord:
    """The epoch that is open for commits now or next."""
    data = state.get(CURRENT_EPOCH)
    if data is None:
        raise RuntimeError("state has no current epoch")
    return need(state, EPOCH + data, EpochRecord)


def epoch(state: StateView, n: int) -> EpochRecord | None:
    """The epoch numbered `n`, if it was ever opened."""
    return read(state, EPOCH + number(n), EpochRecord)


def need_epoch(state: StateView, n: int) -> EpochRecord:
    """The epoch numbered `n`, which was opened."""
    return need(state, EPOCH + number(n), EpochRecord)


def write_epoch(state: Overlay, record: EpochRecord) -> None:
    """Store an epoch."""
    write(state, EPOCH + number(record.number), record)


def task(state: StateView, task_id: bytes) -> TaskRecord | None:
    """A task by id."""
    return read(state, TASK + task_id, TaskRecord)


def need_task(state: StateView, task_id: bytes) -> TaskRecord:
    """A task by an id that the state itself names."""
    return need(state, TASK + task_id, TaskRecord)


def result(state: StateView, result_id: bytes) -> ResultRecord | None:
    """A result by id, which is the id of the transaction that revealed it."""
    return read(state, RESULT + result_id, ResultRecord)


def results_of(state: StateView, record: EpochRecord) -> list[ResultRecord]:
    """All results of an epoch, in order of reveal."""
    prefix = RESULT_AT + number(record.number)
    found = []
    for i in range(record.results):
        key = state.get(prefix + number(i))
        found.append(need(state, RESULT + (key or b""), ResultRecord))
    return found


def commits_of(state: StateView, record: EpochRecord) -> list[CommitRecord]:
    """All commits of an epoch that is not settled yet, in order."""
    prefix = COMMIT_AT + number(record.number)
    found = []
    for i in range(record.commits):
        key = state.get(prefix + number(i))
        found.append(need(state, COMMIT + (key or b""), CommitRecord))
    return found


def ids(state: StateView, key: bytes) -> tuple[bytes, ...]:
    """A list of ids; empty where there is none."""
    record = read(state, key, HashList)
    return () if record is None else record.items


def last_beacon(state: StateView) -> bytes:
    """The last beacon on this branch."""
    return state.get(LAST_BEACON) or bytes(32)


def seat_window(state: StateView) -> SeatWindow:
    """The seats that competitions gave, by competition."""
    return need(state, WINDOW, SeatWindow)


def active_seats(state: StateView) -> tuple[bytes, ...]:
    """Ids of all active seats: those that were won, and the bootstrap seats until the window is full."""
    window = seat_window(state)
    won = tuple(seat for group in window.groups for seat in group.seats)
    return won if len(window.groups) == window.most else won + ids(state, BOOTSTRAP)


def won_seats(state: StateView) -> tuple[bytes, ...]:
    """Ids of all seats that competitions gave, active or pending."""
    window = seat_window(state)
    return tuple(seat for group in (*window.groups, *window.pending) for seat in group.seats)


def pending_seats(state: StateView) -> tuple[bytes, ...]:
    """Ids of the seats that can still be challenged."""
    return tuple(seat for group in seat_window(state).pending for seat in group.seats)


def seat_group(state: StateView, n: int) -> SeatGroup | None:
    """The seats that the competition of epoch `n` gave, while they are pending or active."""
    window = seat_window(state)
    return next((group for group in (*window.pending, *window.groups) if group.epoch == n), None)


def closes(state: StateView, parameters: ConsensusParameters, settled: EpochRecord) -> int:
    """Height of the first block in which nothing of a settled epoch can be challenged, as things stand."""
    group = seat_group(state, settled.number)
    return group.closes if group is not None else parameters.challenge_close(settled.settled_height)


def open_epochs(state: StateView, parameters: ConsensusParameters, height: int) -> list[EpochRecord]:
    """Settled epochs of which the block at `height` can challenge something, those first whose time is over first."""
    settled = [need_epoch(state, n) for n in bonded_epochs(state)]
    ends = {each.number: closes(state, parameters, each) for each in settled}
    return sorted((each for each in settled if height < ends[each.number]), key=lambda each: ends[each.number])


def seat_holder(state: StateView, seat: bytes) -> tuple[bytes, Payouts] | None:
    """(owner's public key, payout table) of a seat, or None where there is no such seat."""
    bootstrap = read(state, BOOTSTRAP_SEAT + seat, SeatRecord)
    if bootstrap is not None:
        return bootstrap.owner, bootstrap.payouts
    won = result(state, seat)
    return None if won is None else (won.owner, won.payouts)


def bonded_epochs(state: StateView) -> tuple[int, ...]:
    """Settled epochs with results that can still be challenged or whose bonds are in escrow, the oldest first."""
    record = read(state, BONDED, EpochList)
    return () if record is None else record.items


def count_in_block(state: Overlay, key: bytes, height: int, most: int) -> bool:
    """Count one more at `key` for the block at `height`; False where that is more than `most`."""
    seen = read(state, key, BlockCount)
    count = seen.count if seen is not None and seen.height == height else 0
    write(state, key, BlockCount(height, count + 1))
    return count < most


def _listed_result(key: bytes, value: bytes) -> tuple[bytes, ...]:
    record = ResultRecord.decode(value, _MOST)
    return (listed_result(record),)


def listed_result(record: ResultRecord) -> bytes:
    """Name of a result in the database's index: task, ~height, id. So a task's newest results come first."""
    return record.task + complement(record.height) + record.id


RESULTS_BY_TASK = StateIndex(RESULT, _listed_result)
