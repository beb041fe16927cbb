"""Bad input, limits, errors of the node, metrics and the page."""

from __future__ import annotations

import asyncio
import dataclasses
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import Missing
from chain.failures import StoreError
from ponas_node.api import ApiLimits, create_app
from ponas_node.api.limits import RateLimiter
from tests.api.conftest import FREE
from tests.api.view import EVIL


async def post(client, **options) -> tuple[int, str]:
    answer = await client.post("/v1/transactions", **options)
    body = await answer.json()
    return answer.status, body["error"]["code"] if "error" in body else body["id"]


async def send(client, transaction) -> tuple[int, str]:
    return await post(client, json={"transaction": transaction.raw.hex()})


async def test_send(view, client):
    transaction = view.transfer()
    assert await send(client, transaction) == (200, transaction.id.hex())
    assert view.mempool.get(transaction.id) == transaction
    assert await send(client, transaction) == (409, "known")


async def test_refused_transactions(view, client):
    good = view.transfer()
    forged = dataclasses.replace(good, signature=bytes(64))
    assert await send(client, forged) == (400, "bad_signature")
    assert await send(client, view.transfer(fee=1)) == (400, "fee_too_low")
    assert await send(client, view.transfer(amount=10**9)) == (409, "insufficient_balance")
    assert await send(client, view.transfer(after=60)) == (409, "nonce_too_high")
    view.world.mint(good)
    assert (await send(client, good))[0] == 409
    assert len(view.mempool) == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_json"), (b"{", "bad_json"), (b"\xff\xfe", "bad_json"), (b"[1]", "bad_json"), (b"{}", "bad_json"),
        (b"[" * 100_000, "bad_json"), (b'{"transaction": 5}', "bad_json"),
        (b'{"transaction": "00", "more": 1}', "bad_json"), (b'{"transaction": ""}', "bad_hex"),
        (b'{"transaction": "0"}', "bad_hex"), (b'{"transaction": "00 00"}', "bad_hex"),
        (b'{"transaction": "zz"}', "bad_hex"), (b'{"transaction": "c1"}', "bad_encoding"),
        (b'{"transaction": "96"}', "bad_encoding"), (b'{"transaction": "dd7fffffff"}', "bad_encoding"),
    ],
)  # fmt: skip
async def test_malformed_bodies(client, data, code):
    assert await post(client, data=data) == (400, code)


async def test_encoding_must_be_canonical(view, client):
    raw = view.transfer().raw
    assert await post(client, json={"transaction": (raw + b"\0").hex()}) == (400, "bad_encoding")
    assert await post(client, json={"transaction": raw[:-1].hex()}) == (400, "bad_encoding")


async def test_too_large(client):
    assert await post(client, data=b" " * (300 << 10)) == (413, "too_large")
    assert await post(client, json={"transaction": "00" * (67 << 10)}) == (413, "too_large")


async def test_many_transactions_at_once(view, client):
    transactions = [view.transfer(after=i) for i in range(10)]
    answers = [await send(client, transaction) for transaction in transactions]
    assert [status for status, _ in answers] == [200] * 10


async def test_slow_check_is_answered_and_goes_on(view):
    checked = asyncio.Event()

    async def wait() -> None:
        await checked.wait()

    view.before_submit = wait
    limits = dataclasses.replace(FREE, request_seconds=0.2, submissions=1)
    async with TestClient(TestServer(create_app(view, limits))) as client:
        transaction = view.transfer()
        assert await send(client, transaction) == (202, transaction.id.hex())
        assert await send(client, view.transfer(amount=6)) == (503, "busy")
        checked.set()
        await asyncio.sleep(0.05)
        assert view.mempool.get(transaction.id) is not None


async def test_missing_facts_and_faults(view, client, monkeypatch):
    async def missing() -> None:
        raise Missing((1,))

    async def fault() -> None:
        raise KeyError("secret")

    async def database() -> None:
        raise StoreError("io", "/secret/path failed.", "Look.")

    view.before_submit = missing
    view.submit_transaction = lambda transaction: view.before_submit()
    assert await send(client, view.transfer()) == (503, "missing_facts")
    view.before_submit = fault
    answer = await client.post("/v1/transactions", json={"transaction": view.transfer().raw.hex()})
    assert answer.status == 500 and "secret" not in await answer.text()
    view.before_submit = database
    answer = await client.post("/v1/transactions", json={"transaction": view.transfer().raw.hex()})
    assert answer.status == 503 and "secret" not in await answer.text()


async def test_a_body_that_never_comes(view):
    limits = dataclasses.replace(FREE, request_seconds=0.2)
    async with TestServer(create_app(view, limits)) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"}}"), 5)
        assert answer.startswith(b"HTTP/1.1 408") and b'"timeout"' in answer
        writer.close()


async def test_rate_limit(view):
    now = [0.0]
    limits = ApiLimits(requests_per_second=1, burst=3)
    async with TestClient(TestServer(create_app(view, limits, lambda: now[0]))) as client:
        assert [(await client.get("/v1/status")).status for _ in range(4)] == [200, 200, 200, 429]
        answer = await client.get("/v1/status", headers={"X-Forwarded-For": "198.51.100.7"})
        assert answer.status == 429 and answer.headers["Retry-After"] == "1"
        assert (await answer.json())["error"]["code"] == "too_many_requests"
        now[0] = 2.0
        assert [(await client.get("/v1/status")).status for _ in range(3)] == [200, 200, 429]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.sampled_from([1.0, 5.0])), max_size=60))
def test_bucket_never_gives_more_than_it_has(steps):
    now = 0.0
    limiter = RateLimiter(2.0, 10.0, 100, lambda: now)
    given: dict[str, float] = {}
    for client, wait, cost in steps:
        now += wait
        if not limiter.take(client, cost):
            given[client] = given.get(client, 0.0) + cost
        assert given.get(client, 0.0) <= 10.0 + 2.0 * now + 1e-6


def test_buckets_are_bounded():
    limiter = RateLimiter(1.0, 1.0, 8, lambda: 0.0)
    for i in range(1000):
        assert limiter.take(str(i), 1.0) == 0
    assert len(limiter._buckets) == 8


async def test_metrics(view, client):
    view.world.mint()
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = await answer.text()
    sample = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^}]*\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$")
    types = dict(re.findall(r"^# TYPE (\S+) (counter|gauge)$", text, re.M))
    for line in text.splitlines():
        assert line.startswith("# ") or sample.match(line), line
        if not line.startswith("#"):
            assert types[re.split(r"[ {]", line)[0]] == ("counter" if line.split()[0].endswith("_total") else "gauge")
    assert len(re.findall(r"^# HELP", text, re.M)) == len(types)
    for line in (
        "ponas_height 1",
        "ponas_reorgs_total 3",
        "ponas_odd_name__total 1",
        "ponas_evaluation_seconds_total 1.5",
    ):
        assert f"\n{line}\n" in text


async def test_page(view, client):
    answer = await client.get("/")
    text = await answer.text()
    assert answer.content_type == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("sha256-") == 2
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"):
        assert unsafe not in text
    assert EVIL not in text and view.genesis.name not in text


async def test_evil_names_stay_data(view, client):
    for path in ("/v1/tasks", "/v1/peers", "/v1/epochs/current", f"/v1/blocks/{EVIL.replace('/', '%2F')}"):
        answer = await client.get(path)
        assert answer.content_type == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_long_and_odd_requests(client):
    assert (await client.get("/v1/blocks/" + "1" * 5000)).status == 400
    assert (await client.get("/v1/status", headers={"X": "y" * 100_000})).status == 400
    assert (await client.get("/v1/status")).status == 200


async def test_other_components_may_keep_a_socket_open(view):
    """A node's pool puts its own routes on this application; no limit of the API may cut its sockets."""

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(message.data)
        return answer

    app = create_app(view, dataclasses.replace(FREE, request_seconds=0.05))
    app.add_routes([web.get("/pool", socket)])
    async with TestClient(TestServer(app)) as client, client.ws_connect("/pool") as connection:
        await asyncio.sleep(0.2)
        await connection.send_str("still here")
        assert await connection.receive_str(timeout=5) == "still here"
