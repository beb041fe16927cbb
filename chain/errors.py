"""Typed errors of validation. The class says what the peer that sent the item deserves."""

from __future__ import annotations


class Invalid(Exception):
    """Base of everything that validation refuses. `code` is stable and machine-readable."""

    code = "invalid"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Ignore(Invalid):
    """Not usable here and now (too early, already known, stale): drop it, the peer did nothing wrong."""

    code = "ignored"


class Reject(Invalid):
    """Can never be valid: penalise the peer that sent it."""

    code = "rejected"


class BadEncoding(Reject):
    """Bytes that are not the canonical encoding of what they claim to be."""

    code = "bad_encoding"


class BadSignature(Reject):
    """A signature that does not verify under the stated key."""

    code = "bad_signature"


class BadTransaction(Reject):
    """A transaction that breaks a rule whatever the state is."""

    code = "bad_transaction"


class NotApplicable(Ignore):
    """A transaction that is well-formed but does not fit the present state (nonce, balance, phase)."""

    code = "not_applicable"


class Refuted(Ignore):
    """A transaction that is false on this branch, though it may be true on another one, whose beacon or task differs.

    In a block it is a fault of the block. On its own it says nothing against the peer: it may be on the other branch.
    """

    code = "refuted"


class BadBlock(Reject):
    """A block that breaks a rule."""

    code = "bad_block"


class BadCoinbase(BadBlock):
    """A coinbase that pays something other than what the rules demand."""

    code = "bad_coinbase"


class UnknownParent(Ignore):
    """A block whose parent is not known here."""

    code = "unknown_parent"


class TooDeep(Ignore):
    """A reorganisation deeper than the network's rollback limit."""

    code = "too_deep"


class Missing(Ignore):
    """Facts about artifacts that this node must establish before it can judge the item.

    `facts` are opaque requests (hashable); the caller establishes them and tries again.
    """

    code = "missing_facts"

    def __init__(self, facts: tuple[object, ...]) -> None:
        super().__init__(f"{len(facts)} facts must be established first")
        self.facts = facts
