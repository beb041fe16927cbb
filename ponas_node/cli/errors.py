"""Errors as a user meets them: one sentence on what is wrong, one on what to do, and an exit code."""

from __future__ import annotations

import errno

USAGE, FAILURE = 2, 1


class UserError(Exception):
    """Ends a command with its message on standard error. Exit code 2: asked for wrongly; 1: it did not work."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def explain(error: Exception) -> UserError | None:
    """The user's view of an error that a command let pass; None where it is a fault of the program.

    The modules whose errors these are may be slow to load, so they are looked at only now.
    """
    if isinstance(error, UserError):
        return error
    from chain.errors import Invalid
    from chain.failures import StoreError
    from chain.keys import BadAddress
    from consensus.genesis import BadGenesis
    from ponas_node.client import ClientError
    from ponas_node.units import BadAmount
    from ponas_node.wallet import WalletError

    if isinstance(error, BadAddress):
        return UserError(f"This is not an address: {error}. Copy it again from its source.", USAGE)
    if isinstance(error, BadAmount):
        return UserError(f"{_capital(str(error))}.", USAGE)
    if isinstance(error, BadGenesis):
        return UserError(f"{_capital(str(error))}. Get the network's genesis file again, or mend it.")
    if isinstance(error, StoreError | ClientError | WalletError):
        return UserError(str(error))
    if isinstance(error, Invalid):
        return UserError(f"Refused ({error.code}): {error}.")
    return _explain_system(error) if isinstance(error, OSError) else None


def _explain_system(error: OSError) -> UserError:
    """What the operating system refuses, in words that say what to do."""
    name = f" ({error.filename})" if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"The port is in use by another program: {reason}. Stop that program, or choose another port "
            "with --p2p-port or --api-port."
        )
    remedies = {
        errno.ENOENT: "Check the path.",
        errno.EEXIST: "Something of that name is there already: choose another path.",
        errno.ENOTDIR: "A file is where a directory is needed: choose another path.",
        errno.EISDIR: "A directory is where a file is needed: choose another path.",
        errno.EACCES: "Grant the right to use it, or choose another path or port.",
        errno.EPERM: "Grant the right to use it, or choose another path or port.",
        errno.ENOSPC: "Free some space on the disk and try again; what was written before is intact.",
        errno.EROFS: "Choose a path that can be written to.",
        errno.EADDRNOTAVAIL: "Choose an address of this machine.",
        errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    }
    return UserError(f"{reason}{name}. {remedies.get(error.errno or 0, 'See the log for more.')}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
