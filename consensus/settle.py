"""What time alone brings about: sealing the boundary of an epoch, settling it, opening the next one.

Source: protocol C5, C6, C8.
"""

from __future__ import annotations

import dataclasses

from chain import accounts
from chain.keys import address_of
from chain.state import Overlay
from chain.types import Output, Part
from consensus import records
from consensus.parameters import LONGEST_WINDOW, ConsensusParameters
from consensus.split import split
from consensus.types import (
    DueRecord,
    EpochList,
    EpochRecord,
    HashList,
    Payouts,
    ResultRecord,
    SeatGroup,
    SeatWindow,
    TaskRecord,
    epoch_seed,
)


def advance(state: Overlay, parameters: ConsensusParameters, slot: int, height: int, parent: bytes) -> None:
    """Bring the epochs up to `slot`, for the block at `height` whose parent is `parent`."""
    while True:
        record = records.current_epoch(state)
        if not record.boundary and slot >= parameters.boundary_slot(record.number, bool(record.sealed)):
            record = dataclasses.replace(record, boundary=parent)
            records.write_epoch(state, record)
        if slot < parameters.start(record.number) + parameters.reveal_close:
            break
        settle(state, parameters, record, height)
        open_epoch(state, max(record.number + 1, parameters.epoch_of(slot)))
    _activate_seats(state, height)
    _release_bonds(state, parameters, height)


def open_epoch(state: Overlay, n: int) -> None:
    """Open epoch `n`: choose its task and fix the seed of its training."""
    task = choose_task(state, n)
    bounty = task.spec.bounty_per_epoch if task.epochs_left else 0
    seed = epoch_seed(records.last_beacon(state), n, task.id)
    opened = EpochRecord(
        number=n, task=task.id, seed=seed, bounty=bounty, sealed=task.splits[0].artifact if task.splits else b"",
        key=b"", boundary=b"", beacon=b"", commits=0, results=0, settled=False, void=False, settled_height=0,
        winners=(),
    )  # fmt: skip
    records.write_epoch(state, opened)
    state.put(records.CURRENT_EPOCH, records.number(n))


def choose_task(state: Overlay, n: int) -> TaskRecord:
    """The funded task with the highest bounty per epoch, then the oldest; else the built-in ones in turn."""
    funded = records.ids(state, records.FUNDED)
    if funded:
        tasks = [records.need_task(state, i) for i in funded]
        return min(tasks, key=lambda task: (-task.spec.bounty_per_epoch, task.height, funded.index(task.id)))
    built_in = records.ids(state, records.BUILT_IN)
    return records.need_task(state, built_in[n % len(built_in)])


def rank(results: list[ResultRecord], least_correct: int) -> list[ResultRecord]:
    """Results that count, best first: of one canonical architecture the earliest sealed, none below the baseline, none
    that was revoked."""
    earliest: dict[bytes, ResultRecord] = {}
    for result in sorted(results, key=lambda result: result.commit_order):
        if not result.revoked:
            earliest.setdefault(result.canonical, result)
    good = [result for result in earliest.values() if result.correct >= least_correct]
    return sorted(good, key=lambda result: result.rank_key)


def settle(state: Overlay, parameters: ConsensusParameters, record: EpochRecord, height: int) -> None:
    """Close an epoch: return deposits, seat the best results, split the bounty; payments go into `DUE`."""
    task = records.need_task(state, record.task)
    due = [Part(b"", tuple(_refunds(state, record)))]
    results = records.results_of(state, record)
    winners = rank(results, task.spec.baseline_correct)[: parameters.seats]
    bounty = record.bounty if task.epochs_left else 0
    rewards = split(bounty, [winner.correct - task.spec.baseline_correct for winner in winners])
    for winner, reward in zip(winners, rewards, strict=True):
        due.append(Part(winner.id, tuple(pay(winner.payouts, reward))))
        seated = dataclasses.replace(winner, seated=True, reward=reward)
        records.write(state, records.RESULT + winner.id, seated)
    for result in results:
        state.delete(records.OPENED + result.commit + records.number(result.leaf_index))
    if winners:
        _give_seats(state, parameters.challenge_close(height), record.number, tuple(winner.id for winner in winners))
    due.append(Part(b"", tuple(_close_task(state, parameters, record, task, paid=sum(rewards) > 0))))
    settled = dataclasses.replace(
        record,
        settled=True,
        void=not record.beacon,
        settled_height=height,
        winners=tuple(winner.id for winner in winners),
    )
    records.write_epoch(state, settled)
    if results:
        records.write(state, records.BONDED, EpochList((*records.bonded_epochs(state), record.number)))
    _add_due(state, height, due)


def pay(payouts: Payouts, amount: int) -> list[Output]:
    """`amount` split over a payout table; empty lines are left out."""
    shares = split(amount, [payout.weight for payout in payouts])
    return [Output(payout.address, share) for payout, share in zip(payouts, shares, strict=True) if share]


def _refunds(state: Overlay, record: EpochRecord) -> list[Output]:
    due = []
    for i, commit in enumerate(records.commits_of(state, record)):
        if commit.deposit:
            due.append(Output(address_of(commit.owner), commit.deposit))
        state.delete(records.COMMIT + commit.id)
        state.delete(records.COMMIT_AT + records.number(record.number) + records.number(i))
    return due


def _give_seats(state: Overlay, closes: int, n: int, seats: tuple[bytes, ...]) -> None:
    window = records.seat_window(state)
    pending = (*window.pending, SeatGroup(n, closes, seats))[:LONGEST_WINDOW]
    records.write(state, records.WINDOW, dataclasses.replace(window, pending=pending))


def _activate_seats(state: Overlay, height: int) -> None:
    """Take the seats of one competition into the window that cannot be challenged any more; the bonds of those that
    leave it return.

    Never of more than one in a block, so that the outputs of a coinbase stay bounded.
    """
    window = records.seat_window(state)
    coming = next((group for group in window.pending if group.closes <= height), None)
    if coming is None:
        return
    groups = (*window.groups, coming)
    pending = tuple(group for group in window.pending if group is not coming)
    records.write(state, records.WINDOW, SeatWindow(window.most, groups[-window.most :], pending))
    leaving = (seat for group in groups[: -window.most] for seat in group.seats)
    _return_bonds(state, height, [records.need(state, records.RESULT + seat, ResultRecord) for seat in leaving])


def _close_task(
    state: Overlay, parameters: ConsensusParameters, record: EpochRecord, task: TaskRecord, paid: bool
) -> list[Output]:
    """Take a competition off its task; what goes back to the publisher for sealed test splits.

    A split whose key was shown is spent, and its deposit returns; of one whose key was not shown, though it could have
    judged, the deposit is burned. Where no beacon came, a split that is still sealed stays for the next competition.
    """
    left, splits, returned = task.epochs_left - paid, task.splits, 0
    if record.sealed and (record.key or record.beacon):
        splits = splits[1:]
        if record.key:
            returned = parameters.split_deposit
        else:
            accounts.debit(state, accounts.ESCROW, parameters.split_deposit)
            accounts.change_supply(state, -parameters.split_deposit)
    if paid and not left:
        funded = tuple(i for i in records.ids(state, records.FUNDED) if i != task.id)
        records.write(state, records.FUNDED, HashList(funded))
        returned += len(splits) * parameters.split_deposit
        splits = ()
    closed = dataclasses.replace(task, epochs_left=left, splits=splits)
    if closed != task:
        records.write(state, records.TASK + task.id, closed)
    return [Output(task.publisher, returned)] if returned else []


def _release_bonds(state: Overlay, parameters: ConsensusParameters, height: int) -> None:
    """Return the bonds of one epoch whose results cannot be challenged any more, but for those of its active seats."""
    bonded, pending = records.bonded_epochs(state), {group.epoch for group in records.seat_window(state).pending}
    epochs = (records.need_epoch(state, number) for number in bonded if number not in pending)
    epoch = next((epoch for epoch in epochs if parameters.challenge_close(epoch.settled_height) <= height), None)
    if epoch is not None:
        group = records.seat_group(state, epoch.number)
        seats = group.seats if group is not None else ()
        _return_bonds(state, height, [found for found in records.results_of(state, epoch) if found.id not in seats])
        records.write(state, records.BONDED, EpochList(tuple(number for number in bonded if number != epoch.number)))


def _return_bonds(state: Overlay, height: int, results: list[ResultRecord]) -> None:
    """Return the bonds of results, one output for each owner."""
    bonds: dict[bytes, int] = {}
    for result in results:
        if result.bond:
            owner = address_of(result.owner)
            bonds[owner] = bonds.get(owner, 0) + result.bond
            records.write(state, records.RESULT + result.id, dataclasses.replace(result, bond=0))
    _add_due(state, height, [Part(b"", tuple(Output(owner, bond) for owner, bond in bonds.items()))])


def _add_due(state: Overlay, height: int, parts: list[Part]) -> None:
    owed = tuple(part for part in parts if part.outputs)
    if owed:
        records.write(state, records.DUE, DueRecord(height, (*take_due(state, height), *owed)))


def take_due(state: Overlay, height: int) -> tuple[Part, ...]:
    """What the coinbase of this block owes beside subsidy and fees; takes it off escrow's list."""
    due = records.read(state, records.DUE, DueRecord)
    if due is None:
        return ()
    if due.height != height:
        raise RuntimeError("settlement outputs were not paid by the block that settled")
    state.delete(records.DUE)
    return due.parts
