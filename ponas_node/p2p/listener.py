"""The listening side: HTTP up to the upgrade, and what may hold a connection open before that."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ponas_node.p2p.errors import PortInUse
from ponas_node.p2p.limits import MAX_FRAME
from ponas_node.p2p.settings import NetworkSettings
from ponas_node.p2p.text import endpoint

PATH = "/p2p"
_SPARE = 32  # connections beyond max_peers that may be on their way


class Listener:
    """Accepts WebSockets and gives each to `serve` with the address it comes from."""

    def __init__(
        self, settings: NetworkSettings, serve: Callable[[web.WebSocketResponse, str], Awaitable[None]]
    ) -> None:
        self.port = 0
        self._settings = settings
        self._serve = serve
        self._runner: web.AppRunner | None = None
        self._upgraded: set[Any] = set()
        self._seen: dict[Any, float] = {}

    async def start(self) -> None:
        """Listen; raises PortInUse."""
        application = web.Application(client_max_size=1024)
        application.router.add_get(PATH, self._accept)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        host, port = self._settings.listen_host, self._settings.listen_port
        site = web.TCPSite(self._runner, host, port, backlog=64)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(host, port) from error
            raise
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def reap(self) -> None:
        """Close connections that did not become a WebSocket in time, or that are too many."""
        server = self._runner.server if self._runner is not None else None
        if server is None:
            return
        now = asyncio.get_running_loop().time()
        open_now = server.connections
        self._seen = {handler: self._seen.get(handler, now) for handler in open_now}
        waiting = [handler for handler in open_now if handler not in self._upgraded]
        excess = len(open_now) - self._settings.max_peers - _SPARE
        for index, handler in enumerate(waiting):
            if index < excess or now - self._seen[handler] > self._settings.handshake_timeout:
                handler.force_close()
                if handler.transport is not None:
                    handler.transport.abort()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            timeout=self._settings.close_timeout, compress=False, max_msg_size=MAX_FRAME + 1, autoping=False
        )
        if not socket.can_prepare(request):
            return web.Response(status=426, text="This is the p2p port of a ponas node; it speaks WebSocket only.\n")
        await socket.prepare(request)
        name = request.transport.get_extra_info("peername") if request.transport is not None else None
        address = endpoint(str(name[0]), int(name[1])) if name else "unknown:0"
        self._upgraded.add(request.protocol)
        try:
            await self._serve(socket, address)
        finally:
            self._upgraded.discard(request.protocol)
        return socket
