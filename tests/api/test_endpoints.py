"""Every endpoint of the API over a real chain."""

from __future__ import annotations

import dataclasses

import pytest

from chain.keys import address_text
from consensus import records
from consensus.genesis import Genesis
from tests.api.view import EVIL, random_hash


async def get(client, path: str, status: int = 200) -> dict:
    answer = await client.get(path)
    body = await answer.json()
    assert answer.status == status, body
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if status != 200:
        assert set(body) == {"error"} and set(body["error"]) == {"code", "message"}
        assert body["error"]["message"].endswith(".")
    return body


async def code(client, path: str, status: int) -> str:
    return (await get(client, path, status))["error"]["code"]


async def test_status(view, client):
    view.world.mint()
    body = await get(client, "/v1/status")
    assert body["network"] == view.genesis.network.hex()
    assert (body["height"], body["slot"], body["epoch"], body["phase"]) == (1, 1, 0, "commit")
    assert body["seconds_to_next_phase"] == 6.75
    assert body["supply"] == 30_000_000 + 1800 + 5_000_000
    assert body["state_root"] == view.chain.tip.state_root.hex()
    assert body["mempool"] == 0 and body["peers"] == 1 and body["syncing"] is False and body["pool"] is False
    view.syncing = True
    assert (await get(client, "/v1/status"))["sync"]["seconds_left"] == 12.5


@pytest.mark.parametrize(
    ("offset", "phase", "wait"), [(0, "commit", 8), (8, "delay", 3), (11, "reveal", 5), (19, "settle", 1)]
)
async def test_phases(view, client, offset, phase, wait):
    view.clock = 40.0 + offset
    body = await get(client, "/v1/status")
    assert (body["epoch"], body["phase"], body["seconds_to_next_phase"]) == (2, phase, wait)


async def test_before_genesis(view, client):
    view.clock = -7.5
    body = await get(client, "/v1/status")
    assert (body["phase"], body["epoch"], body["seconds_to_next_phase"]) == ("before_genesis", None, 7.5)


async def test_blocks_in_pages(view, client):
    for _ in range(5):
        view.world.mint()
    first = await get(client, "/v1/blocks?limit=4")
    assert [block["height"] for block in first["blocks"]] == [5, 4, 3, 2]
    rest = await get(client, f"/v1/blocks?limit=4&before={first['next_before']}")
    assert [block["height"] for block in rest["blocks"]] == [1, 0] and rest["next_before"] is None
    assert (await get(client, "/v1/blocks?before=0"))["blocks"] == []
    assert len((await get(client, "/v1/blocks?before=9999999999999999999"))["blocks"]) == 6


async def test_block_by_height_and_by_id(view, client):
    block = view.world.mint(view.transfer())
    by_height = await get(client, "/v1/blocks/1")
    assert by_height == await get(client, f"/v1/blocks/{block.id.hex()}")
    assert by_height["confirmations"] == 1 and by_height["on_best_chain"]
    assert [found["kind"] for found in by_height["transactions"]] == ["coinbase", "transfer"]
    assert by_height["transactions"][1]["sent"] == 5
    genesis = await get(client, "/v1/blocks/0")
    assert genesis["minter_address"] is None
    assert await code(client, "/v1/blocks/2", 404) == "unknown_block"
    assert await code(client, f"/v1/blocks/{random_hash()}", 404) == "unknown_block"
    assert await code(client, "/v1/blocks/abc", 400) == "bad_number"
    assert await code(client, "/v1/blocks/9999999999999999999", 404) == "unknown_block"
    assert await code(client, "/v1/blocks/" + "z" * 64, 400) == "bad_id"


async def test_transaction_pending_and_confirmed(view, client):
    transaction = view.transfer()
    await view.submit_transaction(transaction)
    path = f"/v1/transactions/{transaction.id.hex()}"
    body = await get(client, path)
    assert body["status"] == "pending" and body["raw"] == transaction.raw.hex()
    assert body["body"]["outputs"] == [{"address": address_text(view.world.keys[2].address), "amount": 5}]
    block = view.world.mint(transaction)
    body = await get(client, path)
    assert (body["status"], body["height"], body["index"], body["block"]) == ("confirmed", 1, 1, block.id.hex())
    assert await code(client, f"/v1/transactions/{random_hash()}", 404) == "unknown_transaction"


async def test_account(view, client):
    view.world.mint(view.transfer(amount=700))
    await view.submit_transaction(view.transfer(amount=1))
    await view.submit_transaction(view.transfer(amount=1, after=2))  # parked: the one before it is not here
    address = address_text(view.world.keys[1].address)
    body = await get(client, f"/v1/accounts/{address}")
    assert body["balance"] == 10_000_000 - 20_700 and body["balance_text"] == "0.099793 PONAS"
    assert (body["nonce"], body["next_nonce"], len(body["pending"])) == (1, 2, 2)
    assert [entry["height"] for entry in body["transactions"]] == [1]
    empty = await get(client, f"/v1/accounts/{address_text(bytes(20))}")
    assert (empty["balance"], empty["nonce"], empty["transactions"]) == (0, 0, [])


async def test_immature_balance_matures(view, client):
    minter = address_text(view.world.keys[0].address)
    maturity = view.genesis.ledger.coinbase_maturity
    for height in range(1, maturity + 4):
        view.world.mint()
        body = await get(client, f"/v1/accounts/{minter}")
        assert body["immature"] == 5_000_000 * min(height, maturity)
        assert body["balance"] == 10_000_000 + 5_000_000 * max(0, height - maturity)


async def test_address_with_a_typing_error(view, client):
    address = address_text(view.world.keys[1].address)
    wrong = address[:10] + ("a" if address[10] != "a" else "b") + address[11:]
    body = await get(client, f"/v1/accounts/{wrong}", 400)
    assert body["error"]["code"] == "bad_address" and "typing error" in body["error"]["message"]
    assert await code(client, "/v1/accounts/nonsense", 400) == "bad_address"


async def test_tasks(view, client):
    body = await get(client, "/v1/tasks")
    [task] = body["tasks"]
    assert task["name"] == EVIL and task["built_in"] and task["funded"] and task["current"] and task["epochs_left"] == 2
    assert task["publisher"] is None and task["bounty_text"] == "0.000009 PONAS"
    assert await get(client, f"/v1/tasks/{task['id']}") == task
    assert await code(client, f"/v1/tasks/{random_hash()}", 404) == "unknown_task"


async def test_a_revoked_result_and_what_revoked_it(view, client):
    world = view.world
    reveals = view.compete()
    lost = reveals[0].id.hex()
    before = await get(client, f"/v1/results/{lost}")
    assert (before["revoked"], before["bond"], before["bond_text"]) == (False, 700, "0.000007 PONAS")
    settled = (await get(client, "/v1/epochs/0"))["settled_height"]
    assert before["challenge_closes"] == settled + view.genesis.consensus.challenge_blocks
    world.facts.forged.add(bytes.fromhex(before["leaves"][2]))
    challenge = world.challenge(world.keys[2], reveals[0].id)
    world.mint(challenge)
    after = await get(client, f"/v1/results/{lost}")
    assert (after["revoked"], after["seated"], after["bond"], after["reward"]) == (True, False, 0, 0)
    epoch = await get(client, "/v1/epochs/0")
    assert [entry["id"] for entry in epoch["revoked"]] == [lost]
    assert lost not in [entry["id"] for entry in epoch["ranking"]]
    shown = await get(client, f"/v1/transactions/{challenge.id.hex()}")
    assert shown["kind"] == "challenge" and shown["body"]["result"] == lost and shown["body"]["segment"] == 1
    header = world.chain.tip
    twin = dataclasses.replace(header, state_root=bytes(32)).signed(world.key_of(header.minter), world.rules.network)
    evidence = world.evidence(world.keys[2], header, twin)
    world.mint(evidence)
    shown = await get(client, f"/v1/transactions/{evidence.id.hex()}")
    assert shown["kind"] == "evidence" and shown["body"]["second"]["state_root"] == "00" * 32


async def test_epoch_and_results(view, client):
    reveals = view.compete()
    epoch = await get(client, "/v1/epochs/0")
    assert epoch["settled"] and len(epoch["winners"]) == 3 and epoch["results"] == 3
    assert [entry["correct"] for entry in epoch["ranking"]] == [150, 140, 120]
    assert epoch["ranking"][0]["id"] == reveals[0].id.hex()
    assert epoch["ranking"][0]["architecture"]
    assert sum(entry["reward"] for entry in epoch["ranking"]) == 900
    assert len((await get(client, "/v1/epochs/0?limit=1"))["ranking"]) == 1
    current = await get(client, "/v1/epochs/current")
    assert current["number"] == 1 and current["beacon"] is None and current["first_slot"] == 20
    assert await code(client, "/v1/epochs/7", 404) == "unknown_epoch"
    assert await code(client, "/v1/epochs/9999999999999999999", 404) == "unknown_epoch"
    assert await code(client, "/v1/epochs/-1", 400) == "bad_number"

    result = await get(client, f"/v1/results/{reveals[0].id.hex()}")
    assert result["correct"] == 150 and result["seated"] and result["seed"] == epoch["seed"]
    assert len(result["leaves"]) == 4 and result["model"] == result["leaves"][-1]
    assert result["payouts"] == [{"address": address_text(view.world.keys[1].address), "weight": 1}]
    assert await code(client, f"/v1/results/{random_hash()}", 404) == "unknown_result"
    transaction = await get(client, f"/v1/transactions/{reveals[0].id.hex()}")
    assert transaction["kind"] == "reveal" and transaction["body"]["correct"] == 150


async def test_model_and_artifacts(view, client):
    data = bytes(range(256)) * 300
    id = view.artifacts.put(data)
    answer = await client.get(f"/v1/artifacts/{id.hex()}")
    assert answer.status == 200 and await answer.read() == data
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "immutable" in answer.headers["Cache-Control"]
    assert await code(client, f"/v1/artifacts/{random_hash()}", 404) == "artifact_not_here"
    reveals = view.compete()
    path = f"/v1/results/{reveals[0].id.hex()}/model"
    assert await code(client, path, 404) == "artifact_not_here"
    result = records.result(view.chain.state, reveals[0].id)
    view.artifacts.path(result.model).write_bytes(b"model")
    assert await (await client.get(path)).read() == b"model"
    assert (await get(client, f"/v1/results/{reveals[0].id.hex()}"))["model_here"]
    assert await code(client, f"/v1/results/{random_hash()}/model", 404) == "unknown_result"


@pytest.mark.parametrize("name", ["..%2f..%2fdb%2fCURRENT", "%2e%2e", "..", ".incoming-x", "x" * 64, "%00" * 64])
async def test_artifact_paths_do_not_escape(client, name):
    answer = await client.get(f"/v1/artifacts/{name}")
    assert answer.status in (400, 404)
    assert "error" in await answer.json()


async def test_seats_and_leader(view, client):
    body = await get(client, "/v1/seats")
    owner = address_text(view.world.keys[0].address)
    assert body["count"] == 1 and body["seats"][0]["owner"] == owner
    assert body["seats"][0]["epoch"] is None and body["seats"][0]["result"] is None
    leader = await get(client, "/v1/leader")
    assert leader["owner"] == owner and leader["slot"] == 1
    assert body["pending"] == []
    reveals = view.compete()
    body = await get(client, "/v1/seats")
    (pending,) = body["pending"]
    status = await get(client, "/v1/status")
    assert (status["seats"], status["pending_seats"]) == (1, 3)
    assert body["count"] == 1 and pending["epoch"] == 0 and pending["seats"][0] == reveals[0].id.hex()
    view.world.activate()
    assert view.chain.height + 1 == pending["active_from"]
    body = await get(client, "/v1/seats")
    assert body["pending"] == []
    assert body["count"] == 3 and body["seats"][0]["result"] == reveals[0].id.hex() and body["seats"][0]["epoch"] == 0
    slot = view.chain.tip.slot + 3
    leader = await get(client, f"/v1/leader?slot={slot}")
    assert leader["seat"] == view.rules.leader(view.chain.state, view.chain.tip, slot).hex()
    assert await code(client, f"/v1/leader?slot={view.chain.tip.slot}", 400) == "bad_slot"
    assert await code(client, f"/v1/leader?slot={slot + 1000}", 400) == "bad_slot"
    assert await code(client, "/v1/leader?slot=x", 400) == "bad_number"


async def test_pool(view, client):
    key = view.world.keys[1]
    member = f"/v1/pool/members/{address_text(key.address)}"
    assert await code(client, "/v1/pool", 404) == "no_pool"
    assert await code(client, member, 404) == "no_pool"
    view.pool = {"members": 1}
    assert await get(client, "/v1/pool") == {"members": 1}
    assert await code(client, member, 404) == "unknown_member"
    view.members[key.address] = {"shares": 3}
    assert await get(client, member) == {"shares": 3}
    assert await code(client, "/v1/pool/members/x", 400) == "bad_address"


async def test_mempool_peers_genesis(view, client):
    await view.submit_transaction(view.transfer())
    body = await get(client, "/v1/mempool")
    assert body["count"] == body["ready"] == 1 and body["bytes"] > 100 and body["transactions"][0]["kind"] == "transfer"
    body = await get(client, "/v1/peers")
    assert body["peers"][0]["version"] == EVIL and body["refusals"][0]["reason"] == EVIL
    text = await (await client.get("/v1/genesis")).text()
    assert Genesis.from_json(text) == view.genesis


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1e3", "", "٣"])
async def test_page_sizes(client, limit):
    assert await code(client, f"/v1/blocks?limit={limit}", 400) in ("bad_limit", "bad_number")


async def test_what_is_not_there(client):
    assert await code(client, "/v1/nothing", 404) == "no_such_endpoint"
    assert await code(client, "/v2/status", 404) == "no_such_endpoint"
    answer = await client.delete("/v1/status")
    assert answer.status == 405 and (await answer.json())["error"]["code"] == "method_not_allowed"
