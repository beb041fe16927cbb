"""Records as plain JSON values: ids and keys in hex, addresses as text with a checksum, amounts as integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from chain.encoding import Record
from chain.errors import BadEncoding
from chain.keys import address_of, address_text
from chain.types import Block, CoinbaseBody, Header, Kind, Transaction, TransferBody
from consensus.spaces import InvalidGenotype, UnknownSpace, get_space
from consensus.types import (
    BeaconBody,
    ChallengeBody,
    CommitBody,
    EpochRecord,
    EvidenceBody,
    KeyBody,
    Payouts,
    PublishBody,
    ResultRecord,
    RevealBody,
    TaskRecord,
    TaskSpec,
    beacon_value,
)
from ponas_node.units import format_amount

Json = dict[str, Any]


def plain(record: Record) -> Json:
    """Any record, field by field; the fields called `address` as addresses, other bytes in hex."""
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    return {field.name: _value(field.name, getattr(record, field.name)) for field in fields}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, Record):
        return plain(value)
    if isinstance(value, tuple):
        return [_value(name, item) for item in value]
    if isinstance(value, bytes):
        return address_text(value) if name == "address" else value.hex()
    return value


def header_json(header: Header) -> Json:
    """A header with its id and the address of its minter (none for the genesis)."""
    minter = address_text(address_of(header.minter)) if header.height else None
    return {"id": header.id.hex(), **plain(header), "minter_address": minter}


def block_json(block: Block, confirmed: bool) -> Json:
    """A block with a summary of every transaction. `confirmed`: it is on the best chain."""
    return {
        **header_json(block.header),
        "on_best_chain": confirmed,
        "bytes": len(block.raw),
        "transactions": [transaction_summary(transaction) for transaction in block.transactions],
    }


def block_summary(block: Block) -> Json:
    """A block's header and how many transactions it has, for lists."""
    return {**header_json(block.header), "transaction_count": len(block.transactions)}


def history_entry(transaction: Transaction, height: int, index: int) -> Json:
    """A transaction in the history of an address, with its place in the chain."""
    return {**transaction_summary(transaction), "height": height, "index": index}


def transaction_summary(transaction: Transaction) -> Json:
    """What a list of transactions shows of each."""
    signed = transaction.kind != Kind.COINBASE
    return {
        "id": transaction.id.hex(),
        "kind": kind_name(transaction.kind),
        "sender": address_text(transaction.address) if signed else None,
        "nonce": transaction.nonce,
        "fee": transaction.fee,
        "fee_text": format_amount(transaction.fee),
        "bytes": len(transaction.raw),
        "sent": _sent(transaction),
    }


def transaction_json(transaction: Transaction) -> Json:
    """A whole transaction, with its canonical bytes in `raw`."""
    return {
        **transaction_summary(transaction),
        "public_key": transaction.sender.hex(),
        "signature": transaction.signature.hex(),
        "body": body_json(transaction),
        "raw": transaction.raw.hex(),
    }


def kind_name(kind: int) -> str:
    """Name of a kind of transaction."""
    try:
        return Kind(kind).name.lower()
    except ValueError:
        return f"unknown_{kind}"


def body_json(transaction: Transaction) -> Json:
    """The body by its kind; in hex where it is of no known kind or form."""
    reader = _BODIES.get(transaction.kind)
    try:
        return {"hex": transaction.body.hex()} if reader is None else reader(transaction.body)
    except BadEncoding:
        return {"hex": transaction.body.hex()}


def _beacon_json(body: bytes) -> Json:
    beacon = BeaconBody.decode(body)
    return {**plain(beacon), "beacon": beacon_value(beacon.output).hex()}


_BODIES: dict[int, Callable[[bytes], Json]] = {
    Kind.COINBASE: lambda body: plain(CoinbaseBody.decode(body)),
    Kind.TRANSFER: lambda body: plain(TransferBody.decode(body)),
    Kind.PUBLISH: lambda body: plain(PublishBody.decode(body)),
    Kind.COMMIT: lambda body: plain(CommitBody.decode(body)),
    Kind.REVEAL: lambda body: plain(RevealBody.decode(body)),
    Kind.BEACON: _beacon_json,
    Kind.CHALLENGE: lambda body: plain(ChallengeBody.decode(body)),
    Kind.EVIDENCE: lambda body: plain(EvidenceBody.decode(body)),
    Kind.KEY: lambda body: plain(KeyBody.decode(body)),
}


def _sent(transaction: Transaction) -> int | None:
    """The sum of the outputs, where the transaction has any."""
    try:
        if transaction.kind == Kind.COINBASE:
            return sum(output.amount for output in CoinbaseBody.decode(transaction.body).outputs)
        if transaction.kind == Kind.TRANSFER:
            return sum(output.amount for output in TransferBody.decode(transaction.body).outputs)
    except BadEncoding:
        pass
    return None


def payouts_json(payouts: Payouts) -> list[Json]:
    """A payout table."""
    return [plain(payout) for payout in payouts]


def task_json(task: TaskRecord, *, funded: bool, built_in: bool, current: bool) -> Json:
    """A task and where it stands."""
    return {
        "id": task.id.hex(),
        "name": task.spec.name,
        "publisher": None if built_in else address_text(task.publisher),
        "height": task.height,
        "epochs_left": task.epochs_left,
        "bounty_per_epoch": task.spec.bounty_per_epoch,
        "bounty_text": format_amount(task.spec.bounty_per_epoch),
        "baseline_correct": task.spec.baseline_correct,
        "evaluated": task.spec.evaluated,
        "funded": funded,
        "built_in": built_in,
        "sealed_splits": [plain(split) for split in task.splits],
        "current": current,
        "spec": plain(task.spec),
    }


def epoch_json(epoch: EpochRecord, task: TaskRecord | None) -> Json:
    """An epoch; hashes that are not known yet are null."""
    return {
        **plain(epoch),
        "sealed": epoch.sealed.hex() or None,
        "key": epoch.key.hex() or None,
        "boundary": epoch.boundary.hex() or None,
        "beacon": epoch.beacon.hex() or None,
        "task_name": None if task is None else task.spec.name,
        "bounty_text": format_amount(epoch.bounty),
        "baseline_correct": None if task is None else task.spec.baseline_correct,
    }


def result_summary(result: ResultRecord, spec: TaskSpec | None) -> Json:
    """What a ranking shows of a result."""
    return {
        "id": result.id.hex(),
        "owner": address_text(address_of(result.owner)),
        "genotype": result.genotype.hex(),
        "architecture": architecture(spec, result.genotype),
        "correct": result.correct,
        "total": result.total,
        "parameters": result.parameters,
        "macs": result.macs,
        "seated": result.seated,
        "revoked": result.revoked,
        "bond": result.bond,
        "bond_text": format_amount(result.bond),
        "reward": result.reward,
        "reward_text": format_amount(result.reward),
    }


def result_json(result: ResultRecord, spec: TaskSpec | None, *, model_here: bool) -> Json:
    """A whole result; `model_here`: this node can send the model."""
    return {
        **plain(result),
        **result_summary(result, spec),
        "owner_public_key": result.owner.hex(),
        "payouts": payouts_json(result.payouts),
        "model": result.model.hex(),
        "model_here": model_here,
    }


def architecture(spec: TaskSpec | None, genotype: bytes) -> str | None:
    """The architecture in words, where the search space is known."""
    if spec is None:
        return None
    try:
        return get_space(spec.space).text(genotype)
    except (UnknownSpace, InvalidGenotype):
        return None
