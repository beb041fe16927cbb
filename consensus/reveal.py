"""Opening a sealed result. Source: protocol C7."""

from __future__ import annotations

import dataclasses

from chain import accounts
from chain.errors import BadTransaction, NotApplicable, Refuted
from chain.merkle import root_from_path
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import Transaction
from consensus import records
from consensus.facts import Facts, ScoreFact, fact_key, score_fact
from consensus.parameters import ConsensusParameters
from consensus.spaces import get_space
from consensus.spaces.base import Cost, InvalidGenotype
from consensus.tasks import input_shape
from consensus.types import CommitRecord, EpochRecord, ResultRecord, RevealBody, TaskSpec, seal


def apply_reveal(
    state: Overlay, parameters: ConsensusParameters, facts: Facts, context: BlockContext, transaction: Transaction
) -> tuple[ScoreFact, ...]:
    """Check a reveal and record its result; returns the score fact where it is not known yet."""
    body = RevealBody.decode(transaction.body)
    epoch = _open_epoch(state, parameters, context)
    commit = _check_seal(state, parameters, transaction, body, epoch)
    task = records.need_task(state, epoch.task)
    canonical, cost = check_genotype(task.spec, body.genotype)
    _check_form(parameters, task.spec, body)
    if not records.count_in_block(state, records.REVEAL_COUNT, context.height, parameters.reveals_per_block):
        raise NotApplicable(f"a block carries at most {parameters.reveals_per_block} reveals", "block_full_of_reveals")
    accounts.move(state, transaction.address, accounts.ESCROW, parameters.reveal_bond)
    fact = score_fact(task.spec, epoch, body.genotype, body.leaves[-1], body.model_bytes)
    correct = facts.get(fact_key(fact))
    if correct is None:
        return (fact,)
    if correct < 0:
        raise Refuted("the model does not decode for its genotype", "bad_model")
    if correct != body.correct:
        raise Refuted(f"the model scores {correct}, not the claimed {body.correct}", "wrong_score")
    result = ResultRecord(
        id=transaction.id, epoch=epoch.number, task=epoch.task, owner=transaction.sender, commit=commit.id,
        commit_height=commit.height, commit_index=commit.index, leaf_index=body.index, genotype=body.genotype,
        canonical=canonical, leaves=body.leaves, model_bytes=body.model_bytes, parameters=cost.parameters,
        macs=cost.macs, correct=correct, total=task.spec.evaluated, payouts=body.payouts, height=context.height,
        reward=0, seated=False, bond=parameters.reveal_bond, revoked=False,
    )  # fmt: skip
    records.write(state, records.RESULT + result.id, result)
    state.put(records.RESULT_AT + records.number(epoch.number) + records.number(epoch.results), result.id)
    state.put(records.OPENED + commit.id + records.number(body.index), b"")
    records.write_epoch(state, dataclasses.replace(epoch, results=epoch.results + 1))
    return ()


def check_genotype(spec: TaskSpec, genotype: bytes) -> tuple[bytes, Cost]:
    """(canonical genotype, cost) of an architecture within the task's limits; raises Refuted."""
    space = get_space(spec.space)
    try:
        space.validate(genotype)
        canonical = space.canonical(genotype)
        cost = space.cost(genotype, input_shape(spec))
    except InvalidGenotype as error:
        raise Refuted("genotype: " + str(error).rstrip("."), "bad_genotype") from error
    if cost.parameters > spec.max_parameters or cost.macs > spec.max_macs:
        raise Refuted(
            f"{cost.parameters} parameters and {cost.macs} MACs; the task allows "
            f"{spec.max_parameters} and {spec.max_macs}",
            "architecture_too_large",
        )
    return canonical, cost


def _open_epoch(state: Overlay, parameters: ConsensusParameters, context: BlockContext) -> EpochRecord:
    epoch = records.current_epoch(state)
    offset = context.slot - parameters.start(epoch.number)
    if not parameters.reveal_open <= offset < parameters.reveal_close:
        raise NotApplicable(f"reveals are not open at slot {context.slot}", "reveal_closed")
    if not epoch.beacon:
        raise NotApplicable(f"epoch {epoch.number} has no beacon yet", "no_beacon")
    return epoch


def _check_seal(
    state: Overlay, parameters: ConsensusParameters, transaction: Transaction, body: RevealBody, epoch: EpochRecord
) -> CommitRecord:
    commit = records.read(state, records.COMMIT + body.commit, CommitRecord)
    if commit is None or commit.epoch != epoch.number:
        raise NotApplicable("no such commit in this epoch", "unknown_commit")
    if commit.owner != transaction.sender:
        raise BadTransaction("only the owner of a commit can open it", "not_the_owner")
    leaf = seal(body.genotype, body.leaves, commit.owner, body.salt)
    if root_from_path(leaf, body.index, commit.leaves, body.path) != commit.root:
        raise BadTransaction("the commit does not seal this result", "not_committed")
    if state.get(records.OPENED + commit.id + records.number(body.index)) is not None:
        raise NotApplicable("this result is revealed already", "already_revealed")
    return commit


def _check_form(parameters: ConsensusParameters, spec: TaskSpec, body: RevealBody) -> None:
    if len(body.leaves) != spec.segments + 2:
        raise Refuted(f"{len(body.leaves)} checkpoint leaves, expected {spec.segments + 2}", "bad_leaves")
    if body.model_bytes > parameters.max_model_bytes:
        raise BadTransaction(f"a model has at most {parameters.max_model_bytes} bytes", "model_too_large")
    if len(body.payouts) > parameters.payout_entries:
        raise BadTransaction(f"a payout table has at most {parameters.payout_entries} lines", "payouts_too_many")
    if len({payout.address for payout in body.payouts}) != len(body.payouts):
        raise BadTransaction("a payout table names an address once", "payouts_repeat")
