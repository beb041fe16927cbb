"""A member's check of its pool over HTTP: an honest pool passes, and every kind of lie is found."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import time

import aiohttp
import pytest
from aiohttp import web

from chain.keys import address_text
from ponas_node import pool_disclosure
from ponas_node.api.errors import answer_errors
from ponas_node.api.limits import LIMITS, ApiLimits
from ponas_node.cli.main import main
from ponas_node.client import NodeClient, Refused
from ponas_node.miner.receipts import Receipts
from ponas_node.pool_admin import AdminError, PoolAdmin, ask_pool
from ponas_node.pool_api import PoolApi
from ponas_node.pool_check import check
from ponas_node.pool_proofs import CheckFailed, rejections
from ponas_node.testnet import genesis as testnet
from ponas_node.wallet import create_wallet
from pool.audit import AuditPolicy
from pool.errors import NoLease, ShareRefused
from pool.heads import sign_head
from pool.pool import Pool
from pool.records import Terms, sign_share
from pool.storage import MemoryStorage
from pool.work import Work
from tests.pool import kit
from tests.pool.kit import key, make_settings, make_share

NOW = time.time() - 7200  # the searches below are over when the API is asked
ME, OTHER, POOL = key(1), key(2), key(99)
GENESIS = testnet.testnet_genesis(0, bootstrap=(POOL.public,), funded=())
LIMIT = GENESIS.consensus.payout_entries


def make_work(epoch: int, closes: float = NOW + 3600) -> Work:
    return kit.make_work(epoch, closes)


class Site:
    """A pool's API, and the chain's, with a place for lies: `lie` gets every answer before it is sent."""

    def __init__(self, terms: Terms = Terms(), **changes: object) -> None:  # noqa: B008
        settings = make_settings(terms=terms, **changes)
        self.pool = Pool(MemoryStorage(), dataclasses.replace(settings, network=GENESIS.network), random.Random(1))
        self.results: dict[str, dict] = {}
        self.lie = lambda path, answer: answer
        self.asked = 0
        self.url = ""

    def share(self, member, correct: int, salt: bytes = b"") -> object:
        lease = self.pool.lease(member.address, b"w", NOW)
        signed, model = make_share(self.pool.work, lease, lease.genotypes[0], member, correct, salt)
        signed = sign_share(dataclasses.replace(signed.share, network=GENESIS.network), member)
        assert self.pool.check_share(member.public, signed, model, NOW) is None
        return signed, self.pool.accept_share(signed, correct, NOW)

    def epoch(self, number: int, scores: dict, seated: bool = True) -> None:
        """Members work, the best result is revealed and seated or not."""
        self.pool.set_work(make_work(number), NOW)
        for member, correct in scores.items():
            for _ in range(3):
                self.share(member, correct)
        self.reveal(number, seated)

    def reveal(self, number: int, seated: bool = True, finder: bytes | None = None) -> None:
        """The best result of the search is revealed, with another `finder` where the pool lies."""
        best = self.pool.candidates(1)[0]
        table = self.pool.payouts_for(dataclasses.replace(best, finder=finder or best.finder), LIMIT)
        id = bytes([number]) * 32
        self.results[id.hex()] = {
            "id": id.hex(), "epoch": number, "owner": address_text(POOL.address), "seated": seated,
            "genotype": best.genotype.hex(), "leaves": [leaf.hex() for leaf in best.leaves],
            "payouts": [{"address": address_text(line.address), "weight": line.weight} for line in table],
        }  # fmt: skip
        if seated:
            self.pool.table_paid(id, number, table)
        else:
            self.pool.round_void(number)

    async def _summary(self, request):
        ledger = self.pool.ledger
        head = sign_head(POOL, GENESIS.network, len(ledger), ledger.root, int(time.time() * 1000))
        return web.json_response({"ledger": {"head": head.encode().hex()}})

    async def _genesis(self, request):
        return web.Response(text=GENESIS.to_json())

    async def _epoch(self, request):
        number = int(request.match_info["n"])
        ranking = [found for found in self.results.values() if found["epoch"] == number]
        return web.json_response({"ranking": ranking})

    async def _result(self, request):
        found = self.results.get(request.match_info["id"])
        if found is None:
            return web.json_response({"error": {"code": "unknown_result", "message": "No."}}, status=404)
        return web.json_response(found)

    @web.middleware
    async def _lying(self, request, handler):
        answer = await handler(request)
        self.asked += 1
        if answer.status == 200 and "json" in answer.content_type:
            return web.json_response(self.lie(request.path, json.loads(answer.text)))
        return answer


@contextlib.asynccontextmanager
async def site(terms: Terms = Terms(), **changes):  # noqa: B008
    found = Site(terms, **changes)
    app = web.Application(middlewares=[found._lying, answer_errors])
    app[LIMITS] = ApiLimits()
    app.add_routes([
        web.get("/v1/pool", found._summary), web.get("/v1/genesis", found._genesis),
        web.get("/v1/epochs/{n}", found._epoch), web.get("/v1/results/{id}", found._result),
        *PoolApi(found.pool, GENESIS.network, time.time).routes(),
    ])  # fmt: skip
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


async def checked(found: Site, folder, member=ME, epochs: int = 8):
    async with NodeClient(found.url) as client:
        return await check(client, client, member, folder, epochs)


@pytest.mark.parametrize("terms", [Terms(), Terms("pplns", 1500, 200, POOL.address, 5)], ids=["proportional", "pplns"])
async def test_an_honest_pool_passes_and_goes_on_passing(tmp_path, terms):
    async with site(terms) as found:
        for number in range(1, 4):
            found.epoch(number, {ME: 200, OTHER: 150 + 50 * number}, seated=number != 2)
            for member in (ME, OTHER):
                findings = await checked(found, tmp_path / member.public.hex(), member)
                assert findings.problems == []
                assert [table.epoch for table in findings.tables] == list(range(1, number + 1))
                assert all(table.part == table.owed > 0 for table in findings.tables)
                assert findings.account.earned == found.pool.book.earned[member.address]
        assert len(findings.account.shares) == 9


def tables(found, change):
    for result in found.results.values():
        result["payouts"] = change(result["payouts"])


async def test_a_table_that_is_short_is_found(tmp_path):
    async with site() as found:
        found.epoch(1, {ME: 200, OTHER: 250}, seated=False)
        text = address_text(ME.address)
        tables(found, lambda lines: [{**line, "weight": line["weight"] - (line["address"] == text)} for line in lines])
        findings = await checked(found, tmp_path)
        [table] = findings.tables
        assert table.short
        assert "payout table" in findings.problems[0]
        tables(found, lambda lines: [line for line in lines if line["address"] != text])
        assert (await checked(found, tmp_path)).tables[0].part == 0


@pytest.mark.parametrize("weight", [float("inf"), 2**32, 0, "x", None])
async def test_a_node_that_talks_nonsense_is_no_reason_to_crash(tmp_path, weight):
    async with site() as found:
        found.epoch(1, {ME: 200, OTHER: 250}, seated=False)
        tables(found, lambda lines: [{**line, "weight": weight} for line in lines])
        with pytest.raises(CheckFailed, match="malformed"):
            await checked(found, tmp_path)


async def test_a_payment_that_the_chain_does_not_know_is_found(tmp_path):
    async with site() as found:
        found.epoch(1, {ME: 200, OTHER: 250})
        next(iter(found.results.values()))["seated"] = False
        assert "did not take a seat" in (await checked(found, tmp_path)).problems[0]
        found.results.clear()
        assert "did not take a seat" in (await checked(found, tmp_path)).problems[0]


async def test_a_share_that_was_acknowledged_and_is_not_there_is_found(tmp_path):
    async with site() as found:
        found.epoch(1, {ME: 200})
        receipts = Receipts(tmp_path, POOL.public)
        signed, accepted = found.share(ME, 100)
        receipts.add(signed.share.id, accepted.points)
        assert (await checked(found, tmp_path)).problems == []
        receipts.add(bytes(32), 7)
        assert "acknowledged" in (await checked(found, tmp_path)).problems[0]


async def test_a_contested_share_honours_its_receipt_and_is_credited_once(tmp_path):
    """The first result is forged: the true one waits as contested, then it is credited, and the sums agree always."""
    async with site(audits=AuditPolicy(block=1, new=1, trusted=1), lease_size=1) as found:
        found.pool.set_work(make_work(1), NOW)
        receipts = Receipts(tmp_path, POOL.public)
        found.share(OTHER, 300, b"forged")
        signed, accepted = found.share(ME, 300)
        receipts.add(signed.share.id, accepted.points)
        path = f"/v1/pool/members/{address_text(ME.address)}/shares"
        async with NodeClient(found.url) as client:
            for state, earned in (("contested", 0), ("accepted", 260)):
                findings = await check(client, client, ME, tmp_path, 3, whole=True)
                assert findings.problems == []
                assert (findings.receipts, findings.account.earned) == (1, earned)
                items = (await client.get(path))["entries"]
                assert [item["state"] for item in items] == [state] * len(items)
                [replay] = found.pool.replays(NOW) or [None]
                if replay is not None:
                    found.pool.resolve(replay, signed.share.leaves[: replay.leaves], NOW)
            assert [item["kind"] for item in items] == ["share", "contested"]
            of_the_liar = (await client.get(f"/v1/pool/members/{address_text(OTHER.address)}/shares"))["entries"]
            assert [(item["kind"], item.get("state")) for item in of_the_liar] == [
                ("refuted", None), ("share", "refuted"),
            ]  # fmt: skip
            receipts.add(signed.share.id, accepted.points + 1)
            assert "acknowledged with 261" in (await checked(found, tmp_path)).problems[0]


@pytest.mark.parametrize("lie", [None, "table", "ledger"])
async def test_only_the_first_of_two_that_agree_is_the_finder(tmp_path, lie):
    async with site(audits=AuditPolicy(block=1, new=1, trusted=1), lease_size=1) as found:
        found.pool.set_work(make_work(1), NOW)
        if lie == "ledger":
            found.pool.results.number_of = lambda work, genotype: 0
        (first, _), (second, _) = found.share(OTHER, 300), found.share(ME, 300)
        assert first.share.leaves == second.share.leaves
        found.reveal(1, finder={None: None, "table": ME.address, "ledger": ME.address}[lie])
        async with NodeClient(found.url) as client:
            for member, confirmed in ((OTHER, 0), (ME, 1)):
                findings = await check(client, client, member, tmp_path / member.public.hex(), 3, whole=True)
                said = " ".join(findings.problems)
                if lie == "ledger":
                    assert "nobody else had handed in" in said and "entry 0 is not the first" in said
                    continue
                assert len(findings.account.confirmed) == confirmed
                assert ("the payout table gives" in said) == (lie is not None and member is OTHER)
                assert lie is not None or not said


async def test_a_contested_share_that_is_never_decided_is_a_problem(tmp_path):
    async with (
        site(audits=AuditPolicy(block=1, new=1, trusted=1), lease_size=1) as found,
        NodeClient(found.url) as pool,
    ):
        found.pool.set_work(make_work(1), NOW)
        found.share(OTHER, 300, b"forged")
        found.share(ME, 300)
        for epoch in range(2, 10):
            found.pool.set_work(make_work(epoch), NOW)
        assert "never told who is right" in (await checked(found, tmp_path)).problems[0]
        both = (await check(pool, pool, OTHER, tmp_path / "other", 3, whole=True)).problems
        assert ["never told who is right" in problem for problem in both] == [True]


async def test_a_ledger_that_is_rewritten_is_found(tmp_path):
    async with site() as honest:
        honest.epoch(1, {ME: 200, OTHER: 250})
        await checked(honest, tmp_path)
    async with site() as other:
        other.epoch(1, {ME: 190, OTHER: 250})
        with pytest.raises(CheckFailed, match=r"does not begin with|two ledgers"):
            await checked(other, tmp_path)
        other.epoch(2, {ME: 190, OTHER: 250})
        with pytest.raises(CheckFailed, match="changed its past"):
            await checked(other, tmp_path)
    async with site() as short:
        short.pool.set_work(make_work(1), NOW)
        with pytest.raises(CheckFailed, match="shrunk"):
            await checked(short, tmp_path)


async def test_an_old_head_is_no_answer(tmp_path):
    """It is signed and of this ledger, but the member has seen a longer one."""
    async with site() as found:
        found.epoch(1, {ME: 200})
        old = json.loads((await found._summary(None)).text)
        found.epoch(2, {ME: 190})
        assert (await checked(found, tmp_path)).problems == []
        found.lie = lambda path, answer: old if path == "/v1/pool" else answer
        with pytest.raises(CheckFailed, match="shrunk"):
            await checked(found, tmp_path)


async def test_a_miner_may_go_on_during_a_check(tmp_path):
    async with site() as found:
        found.epoch(1, {ME: 200, OTHER: 250})
        receipts = Receipts(tmp_path, POOL.public)

        def mined(path, answer):
            if path == "/v1/pool":
                signed, accepted = found.share(ME, 100)
                receipts.add(signed.share.id, accepted.points)
                ledger = found.pool.ledger
                later = int(time.time() * 1000) + 1
                assert receipts.take(sign_head(POOL, GENESIS.network, len(ledger), ledger.root, later)) is None
            return answer

        found.lie = mined
        for _ in range(3):
            assert (await checked(found, tmp_path)).problems == []


def _entries(answer):
    return answer["entries"] if isinstance(answer, dict) and "entries" in answer else []


def forged(path, answer):
    for item in _entries(answer):
        item["entry"] = item["entry"][:-2] + ("00" if item["entry"][-2:] != "00" else "01")
    return answer


def cut_path(path, answer):
    for item in _entries(answer):
        item["path"] = item["path"][:-1]
    return answer


def renumbered(path, answer):
    for item in _entries(answer):
        item["number"] = max(0, item["number"] - 1)
    return answer


def endless(path, answer):
    if _entries(answer):
        answer["next"] = 5
    return answer


def repeated(path, answer):
    if _entries(answer):
        answer["entries"] = answer["entries"] * 2
    return answer


def infinite(path, answer):
    if _entries(answer):
        answer["next"] = float("inf")
    return answer


def strange(path, answer):
    for item in _entries(answer):
        item["number"] = "0"
    return answer


def unsigned(path, answer):
    if path == "/v1/pool":
        raw = bytearray.fromhex(answer["ledger"]["head"])
        raw[-1] ^= 1
        answer["ledger"]["head"] = raw.hex()
    return answer


def no_head(path, answer):
    return {"ledger": 7} if path == "/v1/pool" else answer


def swapped(path, answer):
    """General entries where the member's were asked for: true ones, but not what was asked."""
    if path == "/v1/pool/ledger":
        return answer
    if path.endswith("/shares"):
        answer["entries"] = swapped.other
    return answer


@pytest.mark.parametrize(
    "lie", [forged, cut_path, renumbered, endless, infinite, repeated, strange, unsigned, no_head, swapped],
    ids=lambda lie: lie.__name__,
)  # fmt: skip
async def test_no_lie_about_entries_passes(tmp_path, lie):
    async with site() as found:
        found.epoch(1, {ME: 200, OTHER: 250})
        async with NodeClient(found.url) as client:
            swapped.other = (await client.get("/v1/pool/ledger"))["entries"]
        found.lie = lie
        with pytest.raises(CheckFailed):
            await checked(found, tmp_path)
        found.lie = lambda path, answer: answer
        assert (await checked(found, tmp_path)).problems == []


async def test_the_whole_ledger_can_be_replayed(tmp_path):
    async with site(Terms("pplns", 1500, 200, POOL.address, 5)) as found, NodeClient(found.url) as client:
        for number in range(1, 20):
            found.epoch(number, {ME: 200, OTHER: 250}, seated=number % 3 != 0)
        assert len(found.pool.ledger) > 120
        assert (await check(client, client, ME, tmp_path, 3, whole=True)).problems == []
        found.pool.book.earned[OTHER.address] += 10_000  # the operator helps a friend
        found.epoch(20, {ME: 200})
        assert "what is owed" in (await check(client, client, ME, tmp_path, 3, whole=True)).problems[-1]
        found.lie = lambda path, answer: {**answer, "entries": []} if path.endswith("/entries") else answer
        with pytest.raises(CheckFailed, match="gives only 0"):
            await check(client, client, ME, tmp_path, 3, whole=True)


async def test_what_an_open_search_found_is_told_to_its_finders_alone(tmp_path):
    async with site() as found, NodeClient(found.url) as client:
        found.epoch(1, {ME: 200, OTHER: 250})
        before, closes = len(found.pool.ledger), float(int(time.time() + 3600))
        found.pool.set_work(make_work(2, closes), NOW)
        (mine, _), (theirs, _) = found.share(ME, 300), found.share(OTHER, 333)
        path = f"/v1/pool/members/{address_text(ME.address)}/shares"

        def headers(key=ME, where=path, at=0.0):
            return pool_disclosure.sign_request(key, GENESIS.network, where, int((time.time() + at) * 1000))

        for signed in (None, headers(OTHER)):
            page = await client.get(path, signed)
            assert [entry["number"] < before for entry in page["entries"]] == [True] * 3
        page = await client.get(path, headers())
        assert [entry["number"] for entry in page["entries"]][:1] == [before + 1]
        assert page["entries"][0]["genotype"] == mine.share.genotype.hex()
        for wrong, code in ((headers(where="/v1/pool"), "bad_signature"), (headers(at=-400), "bad_time")):
            with pytest.raises(Refused) as refused:
                await client.get(path, wrong)
            assert refused.value.code == code
        rest = await client.get("/v1/pool/ledger/entries", **{"from": before - 1})
        assert [entry["number"] for entry in rest["entries"]] == [before - 1]
        proof = f"/v1/pool/ledger/{before + 1}/proof"
        assert (await client.get(f"/v1/pool/ledger/{before}/proof"))["kind"] == "work"
        with pytest.raises(Refused) as refused:
            await client.get(proof)
        assert (refused.value.status, refused.value.code) == (403, "open_search")
        assert (await client.get(proof, headers(where=proof)))["genotype"] == mine.share.genotype.hex()
        lease = found.pool.lease(ME.address, b"w", NOW)
        told = [pool_disclosure.summary(found.pool, time.time())]
        told += [pool_disclosure.member(found.pool, member.address, time.time()) for member in (ME, OTHER)]
        for secret in (*lease.genotypes, mine.share.genotype, theirs.share.genotype):
            assert secret.hex() not in json.dumps(told)
        findings = await check(client, client, ME, tmp_path, 3, whole=True)
        assert findings.problems == [] and findings.account.scored == found.pool.book.scored[ME.address]
        assert mine.share.id in findings.account.shares
        again = Pool(found.pool._storage._below.copy(), found.pool.settings, random.Random(2))
        assert again.open_from(closes - 1) == before and again.open_from(closes) == len(again.ledger)
        found.lie = lambda path, answer: {**answer, "entries": []} if path.endswith("/entries") else answer
        with pytest.raises(CheckFailed, match="gives only 0"):
            await check(client, client, ME, tmp_path, 3, whole=True)
        signed, model = make_share(found.pool.work, lease, lease.genotypes[0], ME, 9)
        signed = sign_share(dataclasses.replace(signed.share, network=GENESIS.network), ME)
        with pytest.raises(ShareRefused, match="commits of epoch 2 closed") as late:
            found.pool.check_share(ME.public, signed, model, closes)
        assert late.value.code == "late"
        assert found.pool.check_share(ME.public, signed, model, closes - 1) is None


async def test_pages_are_bounded_and_lead_to_every_entry(tmp_path):
    async with site() as found, NodeClient(found.url) as client:
        for number in range(1, 8):
            found.epoch(number, {ME: 200, OTHER: 250})
        path, seen, before = f"/v1/pool/members/{address_text(ME.address)}/shares", [], None
        while before != 0:
            query = {} if before is None else {"before": before}
            page = await client.get(path, limit=4, **query)
            assert len(page["entries"]) <= 4
            seen += [item["number"] for item in page["entries"]]
            before = page["next"]
        assert seen == found.pool.ledger.page(ME.address, None, 1000)
        proof = await client.get("/v1/pool/ledger/3/proof", size=10)
        assert (proof["size"], proof["number"], proof["kind"]) == (10, 3, "share")
        rest = await client.get("/v1/pool/ledger/entries", **{"from": 2, "limit": 5})
        assert [item["number"] for item in rest["entries"]] == [2, 3, 4, 5, 6]
        listed = (await client.get("/v1/pool/members", limit=1))["members"]
        more = (await client.get("/v1/pool/members", after=listed[0]["address"]))["members"]
        assert {member["address"] for member in listed + more} == {address_text(m.address) for m in (ME, OTHER)}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/pool/ledger/99999/proof", "unknown_entry"), ("/v1/pool/ledger/x/proof", "bad_number"),
        ("/v1/pool/ledger/0/proof?size=99999", "bad_size"), ("/v1/pool/ledger/consistency?from=0", "bad_size"),
        ("/v1/pool/ledger/consistency?from=9&to=2", "bad_size"), ("/v1/pool/ledger?limit=101", "bad_limit"),
        ("/v1/pool/ledger?size=0", "bad_size"), ("/v1/pool/members/pn1x/shares", "bad_address"),
        (f"/v1/pool/members/{address_text(key(7).address)}/shares", "unknown_member"),
        ("/v1/pool/members?after=pn1x", "bad_address"), ("/v1/pool/ledger?before=-1", "bad_number"),
    ],
)  # fmt: skip
async def test_bad_requests_say_what_is_wrong(path, code):
    async with site() as found, aiohttp.ClientSession() as session:
        found.epoch(1, {ME: 200})
        async with session.get(found.url + path) as answer:
            assert answer.status in (400, 404)
            assert (await answer.json())["error"]["code"] == code


async def test_rejections_and_bans_can_be_read(tmp_path):
    async with site() as found:
        found.epoch(1, {ME: 200})
        found.pool.ban(ME.address, "forged trainings", NOW)
        with pytest.raises(NoLease, match="forged trainings"):
            found.pool.lease(ME.address, b"w", NOW)
        lease = found.pool.lease(OTHER.address, b"w", NOW)
        signed, _ = make_share(found.pool.work, lease, lease.genotypes[0], ME, 5)
        with pytest.raises(ShareRefused):
            found.pool.check_share(ME.public, signed, b"m" * 5, NOW)
        async with NodeClient(found.url) as client:
            page = await client.get(f"/v1/pool/members/{address_text(ME.address)}/shares")
            assert page["entries"][0]["kind"] == "ban"
            assert (
                await rejections(client, GENESIS.network, ME) == []
            )  # for another network: whose it is was not proven
        assert (await checked(found, tmp_path)).problems == []


async def test_the_operators_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with site(Terms(fee=100, operator=POOL.address)) as found:
        found.epoch(1, {ME: 200, OTHER: 250})
        found.share(ME, 300)
        admin, size = PoolAdmin(found.pool, tmp_path / "pool.sock", lambda: NOW, LIMIT), len(found.pool.ledger)
        await admin.start()
        socket = tmp_path / "pool.sock"
        assert socket.stat().st_mode & 0o077 == 0
        assert (await ask_pool(socket, "GET", "/status"))["shares"] == 7
        now = await ask_pool(socket, "POST", "/preview", json={})
        dear = await ask_pool(socket, "POST", "/preview", json={"fee_bps": 5000})
        parts = [
            {line["address"]: line["percent"] for line in table["lines"]}[address_text(POOL.address)]
            for table in (now, dear)
        ]
        assert parts == [pytest.approx(1), pytest.approx(50)]
        with pytest.raises(AdminError, match="scheme"):
            await ask_pool(socket, "POST", "/preview", json={"payout_scheme": "mine"})
        assert len(found.pool.ledger) == size
        path = address_text(OTHER.address)
        with pytest.raises(AdminError, match="reason"):
            await ask_pool(socket, "POST", f"/ban/{path}", json={"reason": " "})
        await ask_pool(socket, "POST", f"/ban/{path}", json={"reason": "spam"})
        members = (await ask_pool(socket, "GET", "/members"))["members"]
        assert [member["ban_reason"] for member in members if member["banned"]] == [
            "the operator banned this member: spam"
        ]
        await ask_pool(socket, "POST", f"/unban/{path}")
        with pytest.raises(AdminError, match="not banned"):
            await ask_pool(socket, "POST", f"/unban/{path}")
        await admin.stop()
        with pytest.raises(AdminError, match="No pool answers"):
            await ask_pool(socket, "GET", "/status")


async def test_the_command_warns_by_its_exit_status(tmp_path, capsys):
    wallet = create_wallet(tmp_path / "w.json", None)
    async with site() as found:
        member = wallet.open()
        found.epoch(1, {member: 200, OTHER: 250}, seated=False)
        options = ["--pool", found.url, "--wallet", str(tmp_path / "w.json"), "--data", str(tmp_path), "--json"]
        assert await asyncio.to_thread(main, ["pool", "check", *options]) == 0
        assert json.loads(capsys.readouterr().out)["problems"] == []
        assert await asyncio.to_thread(main, ["pool", "shares", *options]) == 0
        assert len(json.loads(capsys.readouterr().out)["shares"]) == 3
        text = address_text(member.address)
        tables(found, lambda lines: [line for line in lines if line["address"] != text])
        assert await asyncio.to_thread(main, ["pool", "check", *options[:-1]]) == 1
        out = capsys.readouterr().out
        assert "SHORT" in out
        assert "WARNING" in out
        found.lie = forged
        assert await asyncio.to_thread(main, ["pool", "check", *options]) == 1
        assert "does not hold up" in capsys.readouterr().err
