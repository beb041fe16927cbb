"""What a proven offence costs: half of what is still held of the offender is burned, half goes to who proved it.

Source: protocol C10, C11.
"""

from __future__ import annotations

import dataclasses

from chain import accounts, immature
from chain.parameters import LedgerParameters
from chain.rules import BlockContext
from chain.state import Overlay, StateView
from consensus import records
from consensus.parameters import ConsensusParameters
from consensus.settle import rank
from consensus.types import DueRecord, EpochRecord, HashList, ResultRecord, SeatGroup, SeatWindow


def revoke_result(
    state: Overlay,
    ledger: LedgerParameters,
    parameters: ConsensusParameters,
    context: BlockContext,
    result: ResultRecord,
    reporter: bytes,
) -> None:
    """Revoke a result: its bond and its immature rewards are lost, and its competition is ranked without it.

    `reporter` is the address that gets its half.
    """
    accounts.debit(state, accounts.ESCROW, result.bond)
    _share_out(state, result.bond + _take_rewards(state, ledger, context, result.id), reporter)
    revoked = dataclasses.replace(result, bond=0, reward=0, seated=False, revoked=True)
    records.write(state, records.RESULT + result.id, revoked)
    epoch = records.need_epoch(state, result.epoch)
    if epoch.settled:
        _rank_again(state, parameters, epoch, context.height)


def punish_bootstrap_seat(
    state: Overlay, ledger: LedgerParameters, context: BlockContext, seat: bytes, reporter: bytes
) -> None:
    """Take back a bootstrap seat's immature rewards, and the seat unless it is the last: a network needs one."""
    _share_out(state, _take_rewards(state, ledger, context, seat), reporter)
    kept = tuple(other for other in records.ids(state, records.BOOTSTRAP) if other != seat)
    if kept:
        records.write(state, records.BOOTSTRAP, HashList(kept))


def is_lost(state: StateView, seat: bytes) -> bool:
    """Whether a seat was taken from its owner as a punishment."""
    if state.get(records.BOOTSTRAP_SEAT + seat) is not None:
        return seat not in records.ids(state, records.BOOTSTRAP)
    result = records.result(state, seat)
    return result is not None and result.revoked


def _take_rewards(state: Overlay, ledger: LedgerParameters, context: BlockContext, source: bytes) -> int:
    """Cancel what coinbases paid for `source` and what this block's owes for it: the sum, now on no account."""
    heights = range(max(1, context.height - ledger.coinbase_maturity + 1), context.height)
    taken = immature.take_back(state, heights, source)
    due = records.read(state, records.DUE, DueRecord)
    if due is not None:
        owed = sum(output.amount for part in due.parts if part.source == source for output in part.outputs)
        if owed:
            kept = tuple(part for part in due.parts if part.source != source)
            records.write(state, records.DUE, dataclasses.replace(due, parts=kept))
            accounts.debit(state, accounts.ESCROW, owed)
            taken += owed
    return taken


def _share_out(state: Overlay, taken: int, reporter: bytes) -> None:
    """`taken` lies on no account: half of it goes to `reporter`, the rest is burned."""
    reward = taken // 2
    accounts.credit(state, reporter, reward)
    accounts.change_supply(state, reward - taken)


def _rank_again(state: Overlay, parameters: ConsensusParameters, epoch: EpochRecord, height: int) -> None:
    """Take what was revoked out of a settled competition. While its seats are pending they go to whom they belong
    without it; where others come in, all can be challenged for as long as at first."""
    window = records.seat_window(state)
    group = next((group for group in window.pending if group.epoch == epoch.number), None)
    if group is None:
        _drop(state, window, epoch)
        return
    task = records.need_task(state, epoch.task)
    results = records.results_of(state, epoch)
    winners = tuple(result.id for result in rank(results, task.spec.baseline_correct)[: parameters.seats])
    for result in results:
        if not result.revoked and result.seated != (result.id in winners):
            records.write(state, records.RESULT + result.id, dataclasses.replace(result, seated=not result.seated))
    records.write_epoch(state, dataclasses.replace(epoch, winners=winners))
    closes = group.closes if set(winners) <= set(group.seats) else parameters.challenge_close(height)
    changed = SeatGroup(epoch.number, closes, winners)
    pending = tuple(changed if other is group else other for other in window.pending)
    kept = tuple(found for found in pending if found.seats)
    records.write(state, records.WINDOW, dataclasses.replace(window, pending=kept))


def _drop(state: Overlay, window: SeatWindow, epoch: EpochRecord) -> None:
    """Drop a revoked result whose seat was active, or has been. Nobody inherits: who ranks next need not be audited."""
    winners = tuple(id for id in epoch.winners if not is_lost(state, id))
    records.write_epoch(state, dataclasses.replace(epoch, winners=winners))
    left = (
        dataclasses.replace(group, seats=tuple(seat for seat in group.seats if not is_lost(state, seat)))
        for group in window.groups
    )
    groups = tuple(group for group in left if group.seats)
    if groups != window.groups:
        records.write(state, records.WINDOW, dataclasses.replace(window, groups=groups))
