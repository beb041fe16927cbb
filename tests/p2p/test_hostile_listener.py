"""A node that dials something hostile or strange."""

import asyncio
import contextlib

from aiohttp import web

from chain.hashing import digest
from chain.keys import PrivateKey
from ponas_node.p2p import messages as m
from tests.p2p.fakes import FakeHost, RawPeer, running, settings, until


@contextlib.asynccontextmanager
async def server(handler):
    """An HTTP server that gives every request to `handler`; yields its port."""
    application = web.Application()
    application.router.add_get("/{any:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def dial(tmp_path, handler, check):
    host = FakeHost(tmp_path, 1)
    async with server(handler) as port:
        host.settings = settings(peers=(f"127.0.0.1:{port}",))
        async with running(host):
            await check(host)


def speaking(speak):
    async def handle(request):
        socket = web.WebSocketResponse(timeout=0.2)
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError, TypeError):
            await speak(RawPeer(socket, PrivateKey(digest("server"))))
            await socket.receive()
        return socket

    return handle


async def test_a_redirect_is_not_followed(tmp_path):
    visited = []

    async def handle(request):
        visited.append(request.path)
        raise web.HTTPFound("/secret")

    async def check(host):
        await until(lambda: len(visited) >= 3)
        assert set(visited) == {"/p2p"}

    await dial(tmp_path, handle, check)


async def test_something_else_answers(tmp_path, caplog):
    caplog.set_level("INFO")

    async def handle(request):
        return web.Response(text="a web site")

    async def check(host):
        await until(lambda: "cannot reach 127.0.0.1" in caplog.text)

    await dial(tmp_path, handle, check)


async def test_silence(tmp_path):
    async def speak(raw):
        await asyncio.sleep(3)

    async def check(host):
        await until(lambda: any(refusal.code == "timeout" for refusal in host.p2p.refusals))

    await dial(tmp_path, speaking(speak), check)


async def test_a_listener_without_the_key_it_claims(tmp_path):
    async def check(host):
        await until(lambda: any(refusal.code == "bad_signature" for refusal in host.p2p.refusals))
        assert not host.p2p.peers()

    known = FakeHost(tmp_path, 1)

    async def speak(raw):
        await raw.send(raw.hello(known))
        await raw.send(m.Auth(bytes(64)))

    await dial(tmp_path, speaking(speak), check)


async def test_the_reason_of_a_refusal_by_the_peer_is_kept_and_cleaned(tmp_path):
    async def speak(raw):
        await raw.send(m.Goodbye("full", "no\nroom"))

    async def check(host):
        await until(lambda: host.p2p.refusals)
        assert (host.p2p.refusals[0].code, host.p2p.refusals[0].reason) == ("full", "the peer says: no?room")

    await dial(tmp_path, speaking(speak), check)
