"""Evidence that a seat's owner signed two headers for one slot. Source: protocol C11."""

from __future__ import annotations

from chain.errors import BadTransaction, NotApplicable
from chain.parameters import LedgerParameters
from chain.rules import BlockContext
from chain.state import Overlay, StateView
from chain.types import Transaction
from consensus import records
from consensus.parameters import ConsensusParameters
from consensus.slashing import is_lost, punish_bootstrap_seat, revoke_result
from consensus.types import EvidenceBody


def apply_evidence(
    state: Overlay,
    network: bytes,
    ledger: LedgerParameters,
    parameters: ConsensusParameters,
    context: BlockContext,
    transaction: Transaction,
) -> None:
    """Take the seat of the first header from its owner, with its bond and its immature rewards."""
    body = EvidenceBody.decode(transaction.body)
    check_evidence(body, network)
    state.put(find_offence(state, parameters, body, context.slot), b"")
    seat = body.first.seat
    result = records.result(state, seat)
    if result is None:
        punish_bootstrap_seat(state, ledger, context, seat, transaction.address)
    else:
        revoke_result(state, ledger, parameters, context, result, transaction.address)


def find_offence(state: StateView, parameters: ConsensusParameters, body: EvidenceBody, slot: int) -> bytes:
    """Where the state remembers the offence of the accused seat once it is punished.

    Raises NotApplicable where it cannot be punished in a block at `slot`.
    """
    seat, when = body.first.seat, body.first.slot
    holder = records.seat_holder(state, seat)
    if holder is None or holder[0] != body.first.minter:
        raise NotApplicable("the first header's signer owns no such seat on this branch", "unknown_seat")
    if seat in records.pending_seats(state):
        raise NotApplicable("the seat is pending: it mints no blocks", "seat_pending")
    if not slot - parameters.challenge_blocks < when <= slot:
        raise NotApplicable(f"evidence of slot {when} does not count at slot {slot}", "evidence_closed")
    offence = records.OFFENCE + seat + records.number(when)
    if is_lost(state, seat) or state.get(offence) is not None:
        raise NotApplicable("the seat has paid for this", "already_punished")
    return offence


def check_evidence(body: EvidenceBody, network: bytes) -> None:
    """Raise BadTransaction or BadSignature unless one key signed two different headers for one slot."""
    first, second = body.first, body.second
    if first.slot != second.slot or first.minter != second.minter:
        raise BadTransaction("the headers are of two slots or of two keys", "not_equivocation")
    if first.signed_message(network) == second.signed_message(network):
        raise BadTransaction("the headers say the same", "not_equivocation")
    first.check_signature(network)
    second.check_signature(network)
