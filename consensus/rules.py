"""The consensus rules, as the ledger calls them. Pure functions of a state and the known facts.

Source: protocol C4 to C13.
"""

from __future__ import annotations

import dataclasses

from chain import accounts
from chain.errors import BadBlock, BadTransaction, NotApplicable, Refuted
from chain.hashing import EMPTY, digest
from chain.keys import address_of
from chain.rules import BlockContext, CoinbasePlan, StateIndex
from chain.state import Overlay, StateView
from chain.types import VERSION, Header, Kind, Part, Transaction
from consensus import records
from consensus.challenge import apply_challenge
from consensus.evidence import apply_evidence
from consensus.facts import FALSE, BeaconFact, Fact, Facts, fact_key
from consensus.genesis import Genesis
from consensus.publishing import apply_key, apply_publish
from consensus.reveal import apply_reveal
from consensus.settle import advance, open_epoch, pay, take_due
from consensus.slashing import is_lost
from consensus.tasks import check_spec
from consensus.types import (
    BeaconBody,
    CommitBody,
    CommitRecord,
    HashList,
    Payout,
    SeatRecord,
    SeatWindow,
    TaskRecord,
    beacon_value,
    task_id,
)


class ConsensusRules:
    """Implements `chain.rules.Rules` for one network. `facts` answers what costs work to know."""

    index: StateIndex | None = records.RESULTS_BY_TASK

    def __init__(self, genesis: Genesis, facts: Facts) -> None:
        genesis.check()
        self.config = genesis
        self.network = genesis.network
        self.parameters = genesis.ledger
        self.consensus = genesis.consensus
        self.facts = facts

    # ---- genesis and headers

    def genesis(self, state: Overlay) -> Header:
        """Write the genesis state; return the genesis header, its state root still empty."""
        for allocation in self.config.allocations:
            accounts.credit(state, allocation.address, allocation.amount)
            accounts.change_supply(state, allocation.amount)
        seats = tuple(
            digest("ponas/bootstrap-seat", self.network, bytes([i])) for i in range(len(self.config.bootstrap))
        )
        for seat, owner in zip(seats, self.config.bootstrap, strict=True):
            record = SeatRecord(seat, owner, (Payout(address_of(owner), 1),))
            records.write(state, records.BOOTSTRAP_SEAT + seat, record)
        records.write(state, records.BOOTSTRAP, HashList(seats))
        records.write(state, records.WINDOW, SeatWindow(self.consensus.seat_epochs, (), ()))
        built_in, funded = [], []
        for task in self.config.tasks:
            check_spec(task.spec, self.consensus)
            record_ = TaskRecord(task_id(task.spec, b""), task.spec, accounts.ESCROW, 0, task.epochs, ())
            records.write(state, records.TASK + record_.id, record_)
            built_in.append(record_.id)
            total = task.epochs * task.spec.bounty_per_epoch
            if total:
                funded.append(record_.id)
                accounts.credit(state, accounts.ESCROW, total)
                accounts.change_supply(state, total)
        records.write(state, records.BUILT_IN, HashList(tuple(built_in)))
        records.write(state, records.FUNDED, HashList(tuple(funded)))
        state.put(records.LAST_BEACON, digest("ponas/genesis-beacon", self.network))
        open_epoch(state, 0)
        return Header(VERSION, 0, 0, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, bytes(64))

    def leader(self, state: StateView, parent: Header, slot: int) -> bytes:
        """Id of the seat that may mint at `slot` on top of `parent`, whose state this is."""
        seats = records.active_seats(state)
        if slot - parent.slot > self.consensus.rescue_slots:
            bootstrap = records.ids(state, records.BOOTSTRAP)
            seats += tuple(seat for seat in bootstrap if seat not in seats)
        draw = digest("ponas/leader", records.last_beacon(state), records.number(slot))
        return seats[int.from_bytes(draw, "big") % len(seats)]

    def check_header(self, state: StateView, parent: Header, header: Header) -> None:
        """Check seat and minter of a header against the state after its parent."""
        seat = self.leader(state, parent, header.slot)
        if header.seat != seat:
            raise BadBlock(f"slot {header.slot} belongs to seat {seat.hex()[:16]}", "wrong_seat")
        holder = records.seat_holder(state, seat)
        if holder is None or holder[0] != header.minter:
            raise BadBlock("the minter does not own the seat", "wrong_minter")

    # ---- blocks

    def begin_block(self, state: Overlay, context: BlockContext) -> None:
        """Seal, settle and open epochs as the block's slot demands."""
        advance(state, self.consensus, context.slot, context.height, context.parent)

    def minimum_fee(self, transaction: Transaction) -> int:
        """By size; a beacon is free, for the network needs it and only one per epoch can be valid."""
        return 0 if transaction.kind == Kind.BEACON else len(transaction.raw) * self.parameters.fee_per_byte

    def coinbase(self, state: Overlay, context: BlockContext, fees: int) -> CoinbasePlan:
        """Subsidy and fees over the payout table of the minting seat, then what a settlement owes.

        A seat that was lost in this block is paid nothing: the fees are burned.
        """
        holder = records.seat_holder(state, context.seat)
        if holder is None:
            raise BadBlock("no such seat", "wrong_seat")
        settlement = take_due(state, context.height)
        released = sum(output.amount for part in settlement for output in part.outputs)
        accounts.debit(state, accounts.ESCROW, released)
        if is_lost(state, context.seat):  # by a transaction of this very block
            return CoinbasePlan(settlement, -fees, released)
        minted = self.parameters.subsidy_at(context.height)
        own = Part(context.seat, tuple(pay(holder[1], minted + fees)))
        return CoinbasePlan((own, *settlement) if own.outputs else settlement, minted, released)

    def apply(self, state: Overlay, context: BlockContext, transaction: Transaction, index: int) -> tuple[Fact, ...]:
        """Apply a transaction that is no transfer; returns the facts that are missing to judge it."""
        if transaction.kind == Kind.PUBLISH:
            return apply_publish(state, self.consensus, self.facts, context, transaction)
        if transaction.kind == Kind.COMMIT:
            self._commit(state, context, transaction, index)
            return ()
        if transaction.kind == Kind.REVEAL:
            return apply_reveal(state, self.consensus, self.facts, context, transaction)
        if transaction.kind == Kind.BEACON:
            return self._beacon(state, context, transaction)
        if transaction.kind == Kind.KEY:
            return apply_key(state, self.consensus, self.facts, context, transaction)
        if transaction.kind == Kind.CHALLENGE:
            return apply_challenge(state, self.parameters, self.consensus, self.facts, context, transaction)
        if transaction.kind == Kind.EVIDENCE:
            apply_evidence(state, self.network, self.parameters, self.consensus, context, transaction)
            return ()
        raise BadTransaction(f"version 1 has no transactions of kind {transaction.kind}", "unknown_kind")

    # ---- transactions

    def _commit(self, state: Overlay, context: BlockContext, transaction: Transaction, index: int) -> None:
        body = CommitBody.decode(transaction.body)
        epoch = records.current_epoch(state)
        if body.leaves > self.consensus.commit_leaves:
            raise BadTransaction(f"a commit seals at most {self.consensus.commit_leaves} results", "too_many_leaves")
        open_now = (
            body.epoch == epoch.number == self.consensus.epoch_of(context.slot)
            and self.consensus.offset(context.slot) < self.consensus.commit_close
        )
        if not open_now:
            raise NotApplicable(f"commits of epoch {body.epoch} are not open at slot {context.slot}", "commit_closed")
        if body.seed != epoch.seed:
            raise NotApplicable(f"epoch {body.epoch} has another seed on this branch", "other_seed")
        if epoch.commits >= self.consensus.commits_per_epoch:
            raise NotApplicable("the epoch has all the commits it may have", "too_many_commits")
        deposit = self.consensus.commit_deposit
        accounts.move(state, transaction.address, accounts.ESCROW, deposit)
        record = CommitRecord(
            transaction.id, epoch.number, transaction.sender, body.root, body.leaves, deposit, context.height, index
        )
        records.write(state, records.COMMIT + record.id, record)
        place = records.COMMIT_AT + records.number(epoch.number) + records.number(epoch.commits)
        state.put(place, record.id)
        records.write_epoch(state, dataclasses.replace(epoch, commits=epoch.commits + 1))

    def _beacon(self, state: Overlay, context: BlockContext, transaction: Transaction) -> tuple[Fact, ...]:
        body = BeaconBody.decode(transaction.body)
        epoch = records.current_epoch(state)
        if body.epoch != epoch.number or not epoch.boundary:
            raise NotApplicable(f"no beacon of epoch {body.epoch} is due", "beacon_not_due")
        if epoch.beacon:
            raise NotApplicable(f"epoch {body.epoch} has its beacon", "beacon_known")
        last = self.consensus.start(epoch.number) + self.consensus.reveal_open + self.consensus.beacon_grace
        if context.slot >= last:
            raise NotApplicable(f"the beacon of epoch {body.epoch} is too late", "beacon_late")
        fact = self.beacon_fact(epoch.boundary, body.output)
        known = self.facts.get(fact_key(fact))
        if known is None:
            return (fact,)
        if known == FALSE:
            raise Refuted("the delay function's output does not verify", "bad_beacon")
        value = beacon_value(body.output)
        records.write_epoch(state, dataclasses.replace(epoch, beacon=value))
        state.put(records.LAST_BEACON, value)
        return ()

    def beacon_fact(self, boundary: bytes, output: bytes) -> BeaconFact:
        """The fact that `output` is the delay function's over the block `boundary`."""
        parameters = self.consensus
        return BeaconFact(boundary, parameters.vdf_discriminant_bits, parameters.vdf_iterations, output)
