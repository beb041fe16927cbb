"""The client of the API is patient where a node asks for it, and only there."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ponas_node.client import NodeClient, Refused


async def test_too_many_requests_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        status = {"/busy": 429, "/never": 404}.get(request.path, 200 if len(asked) > 3 else 429)
        return web.json_response({"error": {"code": "some", "message": "No."}}, status=status)

    app = web.Application()
    app.add_routes([web.get("/{any}", answer)])
    async with TestServer(app) as server, NodeClient(str(server.make_url("/"))) as client:
        monkeypatch.setattr("ponas_node.client.asyncio.sleep", sleep)
        await client.get("/soon")
        assert (len(asked), len(waits)) == (4, 3)
        with pytest.raises(Refused) as caught:
            await client.get("/never")
        assert (len(asked), caught.value.status) == (5, 404)
        with pytest.raises(Refused) as caught:
            await client.get("/busy")
        assert caught.value.status == 429 and len(asked) == 125
