"""The handshake over a socket, with its deadline. The rules are in `handshake`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from chain.encoding import Record
from chain.errors import BadEncoding
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import Misbehaviour, Refused
from ponas_node.p2p.handshake import Handshake
from ponas_node.p2p.limits import LIMITS
from ponas_node.p2p.session import Socket, receive
from ponas_node.p2p.settings import NetworkSettings
from ponas_node.p2p.text import clean


async def greet(
    socket: Socket, handshake: Handshake, settings: NetworkSettings, admit: Callable[[m.Hello], None]
) -> m.Hello:
    """Shake hands; returns the peer's proven Hello. `admit` may raise Refused before we prove who we are.

    Raises Refused, after telling the peer why, where it was not the peer that refused.
    """
    try:
        async with asyncio.timeout(settings.handshake_timeout):
            return await _exchange(socket, handshake, admit)
    except TimeoutError:
        error = Refused("timeout", f"no handshake within {settings.handshake_timeout:g} s")
    except Misbehaviour as broken:
        error = Refused("bad_handshake", str(broken))
    except (ConnectionError, RuntimeError, OSError):
        error = Refused("lost", "the connection was lost in the handshake")
    except Refused as refused:
        error = refused
    await say_goodbye(socket, error, settings.close_timeout)
    raise error


async def say_goodbye(socket: Socket, error: Refused, timeout: float) -> None:
    """Tell the peer why, unless it was the peer who said it, and close."""
    with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError, OSError):
        async with asyncio.timeout(timeout):
            if not isinstance(error, RefusedByPeer) and not socket.closed:
                await socket.send_bytes(m.frame(m.Goodbye(error.code[:32], clean(str(error)))))
            await socket.close()


class RefusedByPeer(Refused):
    """The peer said Goodbye in the handshake; the text is the peer's, cleaned."""


async def _exchange(socket: Socket, handshake: Handshake, admit: Callable[[m.Hello], None]) -> m.Hello:
    await socket.send_bytes(m.frame(handshake.local))
    while True:
        message = await _next(socket)
        if isinstance(message, m.Hello):
            auth = handshake.on_hello(message)
            admit(message)
            await socket.send_bytes(m.frame(auth))
        elif isinstance(message, m.Auth):
            return handshake.on_auth(message)
        elif isinstance(message, m.Goodbye):
            raise RefusedByPeer(clean(message.code, 32) or "refused", f"the peer says: {clean(message.reason)}")


async def _next(socket: Socket) -> Record:
    data = await receive(socket)
    if data is None:
        raise Refused("lost", "the peer closed the connection in the handshake")
    kind = m.TYPES.get(data[0]) if data else None
    if kind not in (m.Hello, m.Auth, m.Goodbye):
        raise Refused("bad_handshake", "the handshake comes first")
    most = LIMITS[kind].most
    if len(data) - 1 > most:
        raise Refused("bad_handshake", f"{kind.__name__} of {len(data) - 1} bytes, the limit is {most}")
    try:
        return kind.decode(data[1:], most)
    except BadEncoding as error:
        raise Refused("bad_handshake", clean(str(error))) from error
