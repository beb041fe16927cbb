"""Typed errors of the network."""

from __future__ import annotations

import errno


class PortInUse(OSError):
    """The address to listen on belongs to another process."""

    def __init__(self, host: str, port: int) -> None:
        message = f"{host}:{port} is in use by another process; stop that process or choose another p2p port"
        super().__init__(errno.EADDRINUSE, message)


class Refused(Exception):
    """A connection that one side would not have. `code` is stable; the text is fit for a user and for a log."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Misbehaviour(Exception):
    """A peer broke the protocol. `code` is a key of `scoring.POINTS`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class RequestFailed(Exception):
    """A request that was not answered: the peer took too long or left."""


class TimedOut(RequestFailed):
    """A request that was not answered in time, by a peer that is still there."""


class GiveUp(Exception):
    """Not with this peer, not now; `long` where it will be the same for a while. The peer did nothing wrong."""

    def __init__(self, reason: str, long: bool = False) -> None:
        super().__init__(reason)
        self.long = long
