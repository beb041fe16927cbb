"""Statements about accounts, tasks, commits, results and seats, and which entries of the state prove each of them."""

from __future__ import annotations

from typing import Any

from chain import accounts
from chain.errors import BadEncoding
from chain.keys import address_of, address_text
from chain.proofs import BadProof, Proven
from consensus import records
from consensus.types import CommitRecord, Payouts

Json = dict[str, Any]
KINDS = ("account", "task", "commit", "result", "seat")

_KEYS = {
    "account": (accounts.ACCOUNT,),
    "task": (records.TASK,),
    "commit": (records.COMMIT,),
    "result": (records.RESULT,),
    "seat": (records.BOOTSTRAP_SEAT, records.RESULT),
}


def keys_of(kind: str, name: bytes) -> tuple[bytes, ...]:
    """Keys of the state that decide the claim of `kind` about `name`: an address of 20 bytes, or an id of 32."""
    own = tuple(prefix + name for prefix in _KEYS[kind])
    return (records.WINDOW, records.BOOTSTRAP, *own) if kind == "seat" else own


def read_claim(kind: str, name: bytes, state: Proven) -> Json:
    """What `state` says, as plain JSON: `exists`, and the facts where it does; raises BadProof."""
    try:
        return _READERS[kind](name, state)
    except (BadEncoding, RuntimeError) as error:
        raise BadProof(f"the state holds no {kind} as it should be: {error}") from error


def _account(name: bytes, state: Proven) -> Json:
    held = accounts.account(state, name)
    exists = state.get(accounts.ACCOUNT + name) is not None
    return {"exists": exists, "balance": held.balance, "nonce": held.nonce}


def _task(name: bytes, state: Proven) -> Json:
    task = records.task(state, name)
    if task is None:
        return {"exists": False}
    return {
        "exists": True,
        "name": task.spec.name,
        "publisher": address_text(task.publisher),
        "height": task.height,
        "epochs_left": task.epochs_left,
        "bounty_per_epoch": task.spec.bounty_per_epoch,
    }


def _commit(name: bytes, state: Proven) -> Json:
    commit = records.read(state, records.COMMIT + name, CommitRecord)
    if commit is None:
        return {"exists": False}
    return {
        "exists": True,
        "epoch": commit.epoch,
        "owner": address_text(address_of(commit.owner)),
        "root": commit.root.hex(),
        "leaves": commit.leaves,
        "deposit": commit.deposit,
        "height": commit.height,
    }


def _result(name: bytes, state: Proven) -> Json:
    result = records.result(state, name)
    if result is None:
        return {"exists": False}
    return {
        "exists": True,
        "epoch": result.epoch,
        "task": result.task.hex(),
        "owner": address_text(address_of(result.owner)),
        "genotype": result.genotype.hex(),
        "model": result.model.hex(),
        "correct": result.correct,
        "total": result.total,
        "seated": result.seated,
        "revoked": result.revoked,
        "bond": result.bond,
        "reward": result.reward,
        "height": result.height,
        "payouts": _payouts(result.payouts),
    }


def _seat(name: bytes, state: Proven) -> Json:
    holder = records.seat_holder(state, name)
    active = name in records.active_seats(state)
    if holder is None:
        return {"exists": False, "active": active}
    owner, payouts = holder
    return {"exists": True, "active": active, "owner": address_text(address_of(owner)), "payouts": _payouts(payouts)}


def _payouts(payouts: Payouts) -> list[Json]:
    return [{"address": address_text(payout.address), "weight": payout.weight} for payout in payouts]


_READERS = {"account": _account, "task": _task, "commit": _commit, "result": _result, "seat": _seat}
