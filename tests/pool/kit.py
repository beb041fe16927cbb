"""What the pool's tests share: a small task, members, and shares of trainings that nobody ran."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from chain.artifact import artifact_id
from chain.hashing import digest
from chain.keys import PrivateKey
from consensus.types import TaskSpec, task_id
from pool.account import Account
from pool.audit import AuditPolicy
from pool.inspection import Inspection
from pool.leases import Lease
from pool.ledger import subject_of
from pool.pool import Accepted, Pool, PoolSettings
from pool.records import Share, SignedShare, sign_share
from pool.search import Evolution
from pool.storage import MemoryStorage, Storage
from pool.work import Work

NETWORK = digest("test", b"network")
MAX_MODEL = 1 << 20
NOW = 1_800_000_000.0
SAMPLES = 400
NO_AUDITS = AuditPolicy(new=0, trusted=0, best=0)


def make_spec(**changes: Any) -> TaskSpec:
    values: dict[str, Any] = {
        "name": "digits", "dataset": bytes(32), "dataset_bytes": 1, "height": 8, "width": 8, "channels": 1,
        "classes": 10, "test_samples": 300, "space": "stages-v1", "max_parameters": 100_000, "max_macs": 5_000_000,
        "steps": 20, "batch": 8, "segments": 2, "learning_rate": 256, "eval_samples": 300, "baseline": 1000,
        "bounty_per_epoch": 0,
    }  # fmt: skip
    return TaskSpec(**(values | changes))


def make_work(epoch: int = 1, closes: float = NOW + 3600, seed: bytes = b"", **changes: Any) -> Work:
    spec = make_spec(**changes)
    return Work(epoch, task_id(spec, b""), spec, seed or digest("seed", bytes([epoch])), closes, SAMPLES)


def make_settings(**changes: Any) -> PoolSettings:
    """No double leases, leases of two, and a strategy that costs nothing, unless a test asks for others."""
    values: dict[str, Any] = {
        "network": NETWORK, "max_model_bytes": MAX_MODEL, "audits": NO_AUDITS, "lease_size": 2, "strategy": Evolution(),
    }  # fmt: skip
    return PoolSettings(**(values | changes))


def make_pool(storage: Storage | None = None, work: Work | None = None, seed: int = 7, **changes: Any) -> Pool:
    pool = Pool(storage if storage is not None else MemoryStorage(), make_settings(**changes), random.Random(seed))
    if work is not None:
        pool.set_work(work, NOW)
    return pool


def key(number: int) -> PrivateKey:
    return PrivateKey(digest("test-key", bytes([number])))


def model_of(genotype: bytes, salt: bytes = b"") -> bytes:
    return b"model " + genotype + salt


def leaves_of(spec: TaskSpec, genotype: bytes, salt: bytes = b"") -> tuple[bytes, ...]:
    """What a training gives; with another `salt` it is another training."""
    states = (digest("leaf", genotype, salt, bytes([i])) for i in range(spec.segments + 1))
    return (*states, artifact_id(model_of(genotype, salt)))


def make_share(
    work: Work, held: Lease, genotype_: bytes, key_: PrivateKey, correct: int, salt: bytes = b"", **changes: Any
) -> tuple[SignedShare, bytes]:
    """A signed share and its model; `changes` replace fields before it is signed."""
    model = model_of(genotype_, salt)
    leaves = leaves_of(work.spec, genotype_, salt)
    share = Share(NETWORK, work.epoch, work.task, held.id, genotype_, leaves, correct, len(model), key_.public)
    return sign_share(dataclasses.replace(share, **changes), key_), model


def submit(
    pool: Pool, lease: Lease, genotype: bytes, member: PrivateKey, correct: int, now: float = NOW, salt: bytes = b""
) -> Accepted:
    """A member trains `genotype` and the pool measures what it claims."""
    if pool.work is None:
        raise AssertionError("the pool has no work")
    signed, model = make_share(pool.work, lease, genotype, member, correct, salt)
    known = pool.check_share(member.public, signed, model, now)
    return known if known is not None else pool.accept_share(signed, correct, now)


def account_of(pool: Pool, member: PrivateKey, limit: int = 8) -> Account:
    """What a member makes of the ledger's entries about it and of the general ones."""
    account = Account(member.address, limit)
    account.replay(found for found in pool.ledger.replay() if subject_of(found[1]) in (b"", member.address))
    return account


def inspection_of(pool: Pool, limit: int = 8) -> Inspection:
    """What whoever replays the whole ledger finds."""
    inspection = Inspection(limit)
    for _, entry in pool.ledger.replay():
        inspection.take(entry)
    return inspection
