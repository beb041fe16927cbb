"""Challenges: one replayed segment proves that a result's training is not what it claims. Source: protocol C10."""

from __future__ import annotations

from chain import accounts
from chain.errors import BadTransaction, NotApplicable
from chain.parameters import LedgerParameters
from chain.rules import BlockContext
from chain.state import Overlay, StateView
from chain.types import Transaction
from consensus import records
from consensus.facts import TRUE, ChallengeFact, Facts, fact_key
from consensus.parameters import ConsensusParameters
from consensus.slashing import revoke_result
from consensus.tasks import state_bytes_bound
from consensus.types import ChallengeBody, ResultRecord


def apply_challenge(
    state: Overlay,
    ledger: LedgerParameters,
    parameters: ConsensusParameters,
    facts: Facts,
    context: BlockContext,
    transaction: Transaction,
) -> tuple[ChallengeFact, ...]:
    """Revoke the result, or burn the challenger's deposit; returns the fact where it is not known yet."""
    body = ChallengeBody.decode(transaction.body)
    result = find_open(state, parameters, body.result, context.height)
    _check_form(body, result)
    if not records.count_in_block(state, records.CHALLENGE_COUNT, context.height, parameters.challenges_per_block):
        most = parameters.challenges_per_block
        raise NotApplicable(f"a block carries at most {most} challenges", "block_full_of_challenges")
    accounts.left(accounts.account(state, transaction.address).balance, parameters.challenge_deposit)
    fact = challenge_fact(state, result, body.segment, body.state, body.state_bytes)
    proven = facts.get(fact_key(fact))
    if proven is None:
        return (fact,)
    if proven == TRUE:
        revoke_result(state, ledger, parameters, context, result, transaction.address)
    else:
        accounts.debit(state, transaction.address, parameters.challenge_deposit)
        accounts.change_supply(state, -parameters.challenge_deposit)
    return ()


def find_open(state: StateView, parameters: ConsensusParameters, id: bytes, height: int) -> ResultRecord:
    """The result `id`, where the block at `height` can carry a challenge of it; raises NotApplicable."""
    result = records.result(state, id)
    if result is None:
        raise NotApplicable("no such result on this branch", "unknown_result")
    if result.revoked:
        raise NotApplicable("the result is revoked already", "already_revoked")
    end = challenge_closes(state, parameters, result)
    if end is not None and height >= end:
        raise NotApplicable(f"the result could be challenged before block {end}", "challenge_closed")
    return result


def challenge_closes(state: StateView, parameters: ConsensusParameters, result: ResultRecord) -> int | None:
    """Height of the first block that cannot challenge a result, as things stand; None before its epoch is settled."""
    epoch = records.need_epoch(state, result.epoch)
    if not epoch.settled:
        return None
    if result.seated:
        return records.closes(state, parameters, epoch)
    return parameters.challenge_close(epoch.settled_height)


def challenge_fact(
    state: StateView, result: ResultRecord, segment: int, artifact: bytes, artifact_bytes: int
) -> ChallengeFact:
    """What a challenge of a result depends on."""
    epoch = records.need_epoch(state, result.epoch)
    task = records.need_task(state, result.task)
    before, after = result.leaves[segment : segment + 2]
    return ChallengeFact(
        task.spec, result.genotype, epoch.seed, segment, before, after, artifact, artifact_bytes
    )  # fmt: skip


def _check_form(body: ChallengeBody, result: ResultRecord) -> None:
    """Raise BadTransaction for what is wrong on every branch: the result's id says all that this depends on."""
    last = len(result.leaves) - 2
    if body.segment > last:
        raise BadTransaction(f"segment {body.segment} of {last}; the last one stands for the model", "bad_segment")
    if body.segment == 0 and (body.state or body.state_bytes):
        raise BadTransaction("the state before segment 0 follows from the seed", "state_not_wanted")
    if body.segment and (len(body.state) != 32 or not 0 < body.state_bytes <= state_bytes_bound(result.parameters)):
        raise BadTransaction("no artifact that could be the state before the segment", "bad_state")
