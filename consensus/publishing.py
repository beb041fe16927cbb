"""Publishing a task, and showing the key of a sealed test split. Source: protocol C4, C13."""

from __future__ import annotations

import dataclasses

from chain import accounts
from chain.errors import BadTransaction, NotApplicable, Refuted
from chain.rules import BlockContext
from chain.state import Overlay
from chain.types import Transaction
from consensus import records
from consensus.facts import FALSE, DatasetFact, Facts, KeyFact, fact_key
from consensus.parameters import ConsensusParameters
from consensus.tasks import check_spec, check_splits
from consensus.types import HashList, KeyBody, PublishBody, TaskRecord, key_hash, task_id


def apply_publish(
    state: Overlay, parameters: ConsensusParameters, facts: Facts, context: BlockContext, transaction: Transaction
) -> tuple[DatasetFact, ...]:
    """Take a task, its bounties and deposits into escrow; returns the fact where it is not known yet."""
    body = PublishBody.decode(transaction.body)
    spec, splits = body.spec, body.splits
    check_spec(spec, parameters)
    check_splits(spec, splits, parameters)
    total = body.epochs * spec.bounty_per_epoch
    if not total:
        raise BadTransaction("a published task needs a bounty", "no_bounty")
    funded = records.ids(state, records.FUNDED)
    if len(funded) >= parameters.max_tasks:
        raise NotApplicable(f"{len(funded)} funded tasks wait already", "too_many_tasks")
    accounts.move(state, transaction.address, accounts.ESCROW, total + len(splits) * parameters.split_deposit)
    fact = DatasetFact(spec, tuple(split.artifact for split in splits))
    known = facts.get(fact_key(fact))
    if known is None:
        return (fact,)
    if known == FALSE:
        raise BadTransaction("the dataset is malformed or does not fit the task", "bad_dataset")
    record = TaskRecord(
        id=task_id(spec, transaction.id), spec=spec, publisher=transaction.address, height=context.height,
        epochs_left=body.epochs, splits=splits,
    )  # fmt: skip
    records.write(state, records.TASK + record.id, record)
    records.write(state, records.FUNDED, HashList((*funded, record.id)))
    return ()


def apply_key(
    state: Overlay, parameters: ConsensusParameters, facts: Facts, context: BlockContext, transaction: Transaction
) -> tuple[KeyFact, ...]:
    """Open the sealed test split of the current epoch; returns the fact where it is not known yet."""
    body = KeyBody.decode(transaction.body)
    epoch = records.current_epoch(state)
    if body.epoch != epoch.number or not epoch.sealed:
        raise NotApplicable(f"epoch {body.epoch} has no sealed test split now", "key_not_due")
    if epoch.key:
        raise NotApplicable(f"the test split of epoch {body.epoch} is open already", "key_known")
    opens = parameters.start(epoch.number) + parameters.commit_close
    if not opens <= context.slot < parameters.boundary_slot(epoch.number, sealed=True):
        raise NotApplicable(f"no key of epoch {body.epoch} is taken at slot {context.slot}", "key_closed")
    task = records.need_task(state, epoch.task)
    if key_hash(body.key) != task.splits[0].key_hash:
        raise Refuted("this is not the key to which the publisher committed", "wrong_key")
    fact = KeyFact(task.spec, epoch.sealed, body.key)
    known = facts.get(fact_key(fact))
    if known is None:
        return (fact,)
    if known == FALSE:
        raise Refuted("the key does not open a test split that fits the task", "bad_split")
    records.write_epoch(state, dataclasses.replace(epoch, key=body.key))
    return ()
