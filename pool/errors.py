"""Why a pool refuses something. Codes are stable; the sentence is for the member to read."""

from __future__ import annotations

from chain.errors import Invalid


class ShareRefused(Invalid):
    """A share that the pool does not pay for, whatever the member does."""

    code = "share_refused"


class StateRefused(Invalid):
    """A training's state that the pool does not keep, or does not hand out."""

    code = "state_refused"


class NoLease(Invalid):
    """There is nothing to lease to this member now. `retry` says after how many seconds asking again makes sense."""

    code = "no_lease"

    def __init__(self, message: str, code: str, retry: float) -> None:
        super().__init__(message, code)
        self.retry = retry


class PoolFault(Exception):
    """The pool's own storage contradicts itself: a fault in the pool, or a damaged database."""


class Unavailable(Exception):
    """The pool could not take a share for a reason of its own; the member should send it again."""
