"""What is wrong with a share, as far as that shows without running its model."""

from __future__ import annotations

from chain.artifact import artifact_id
from chain.errors import BadSignature
from consensus.types import TaskSpec
from pool.errors import ShareRefused
from pool.leases import Held
from pool.records import Share, SignedShare
from pool.work import Work


def check_author(signed: SignedShare, network: bytes, member: bytes) -> None:
    """Raise ShareRefused unless `member` (a public key) signed this share for this network."""
    if signed.share.member != member:
        raise ShareRefused("the share names another member than the one that connected", "wrong_member")
    if signed.share.network != network:
        raise ShareRefused("the share is for another network", "wrong_network")
    try:
        signed.verify()
    except BadSignature as error:
        raise ShareRefused("the signature of the share does not verify", "bad_signature") from error


def check_lease(share: Share, held: Held | None) -> None:
    """Raise ShareRefused unless the lease is the member's and holds the genotype. A lease past its end still counts."""
    if held is None:
        raise ShareRefused(f"lease {share.lease} is not one of this epoch's", "unknown_lease")
    if held.lease.member != share.address:
        raise ShareRefused(f"lease {share.lease} is another member's", "not_your_lease")
    if share.genotype not in held.open:
        raise ShareRefused(f"lease {share.lease} does not hold this architecture", "not_leased")


def check_form(share: Share, work: Work, model: bytes, max_model_bytes: int) -> None:
    """Raise ShareRefused where the share does not fit the task, or the model does not fit the share."""
    expected = leaf_count(work.spec)
    if len(share.leaves) != expected:
        raise ShareRefused(f"{len(share.leaves)} checkpoint leaves, expected {expected}", "bad_leaves")
    if len(model) > max_model_bytes:
        raise ShareRefused(f"a model has at most {max_model_bytes} bytes, this has {len(model)}", "model_too_large")
    if len(model) != share.model_bytes:
        raise ShareRefused(f"the model has {len(model)} bytes, not {share.model_bytes}", "bad_model_size")
    if artifact_id(model) != share.model:
        raise ShareRefused("the last leaf is not the content id of the uploaded model", "model_mismatch")
    if share.validation_correct > work.validation_samples:
        reason = f"{share.validation_correct} correct of {work.validation_samples} samples"
        raise ShareRefused(reason, "impossible_score")


def check_time(work: Work, now: float) -> None:
    """Raise ShareRefused once the search is over: its shares are open to all then, and could be copied."""
    if now >= work.closes:
        raise ShareRefused(f"the commits of epoch {work.epoch} closed {now - work.closes:.0f} s ago", "late")


def check_score(share: Share, measured: int) -> None:
    """Raise ShareRefused unless the pool measured what the share claims; a negative number is an unusable model."""
    if measured < 0:
        raise ShareRefused("the model does not decode for its architecture", "bad_model")
    if measured != share.validation_correct:
        reason = f"the model predicts {measured} validation samples, not the claimed {share.validation_correct}"
        raise ShareRefused(reason, "wrong_score")


def leaf_count(spec: TaskSpec) -> int:
    """Leaves of a training: the initial state, one per segment, and the model."""
    return spec.segments + 2
