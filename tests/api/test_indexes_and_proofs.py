"""Histories in pages, and proofs that a client can check."""

from __future__ import annotations

import dataclasses

import pytest

from chain.keys import address_text
from chain.proofs import StateProof, proven
from consensus import records
from consensus.claims import keys_of, read_claim
from tests.api.test_endpoints import code, get
from tests.api.view import random_hash


async def test_address_history_in_pages(view, client):
    sent = []
    for n in (2, 0, 3, 1):
        transfers = [view.transfer(amount=1 + i, after=i) for i in range(n)]
        sent += transfers
        view.world.mint(*transfers)
    path = f"/v1/accounts/{address_text(view.world.keys[1].address)}/transactions"
    whole = await get(client, path)
    assert [entry["id"] for entry in whole["transactions"]] == [transfer.id.hex() for transfer in reversed(sent)]
    assert whole["next"] is None
    paged, place = [], ""
    for _ in range(9):
        page = await get(client, f"{path}?limit=2{place}")
        paged += page["transactions"]
        if page["next"] is None:
            break
        place = "&before={before}&index={index}".format(**page["next"])
    assert paged == whole["transactions"]
    assert (await get(client, f"{path}?before=3"))["transactions"] == whole["transactions"][4:]
    assert (await get(client, f"{path}?before={10**18}&index={10**18}"))["transactions"] == whole["transactions"]
    nobody = await get(client, f"/v1/accounts/{address_text(bytes(20))}/transactions")
    assert nobody["transactions"] == [] and nobody["next"] is None
    assert await code(client, f"{path}?before=-1", 400) == "bad_number"


async def test_blocks_of_an_owner(view, client):
    for _ in range(5):
        view.world.mint()
    path = f"/v1/accounts/{address_text(view.world.keys[0].address)}/blocks"
    first = await get(client, f"{path}?limit=3")
    assert [block["height"] for block in first["blocks"]] == [5, 4, 3] and first["next_before"] == 3
    rest = await get(client, f"{path}?limit=3&before=3")
    assert [block["height"] for block in rest["blocks"]] == [2, 1] and rest["next_before"] is None
    other = await get(client, f"/v1/accounts/{address_text(view.world.keys[1].address)}/blocks")
    assert other["blocks"] == []


async def test_results_of_a_task(view, client):
    reveals = view.compete()
    task = view.genesis.tasks[0]
    id = records.ids(view.chain.state, records.BUILT_IN)[0].hex()
    whole = await get(client, f"/v1/tasks/{id}/results")
    assert len(whole["results"]) == 3 and whole["next_after"] is None
    assert {reveal.id.hex() for reveal in reveals} < {entry["id"] for entry in whole["results"]}
    assert all(entry["epoch"] == 0 and entry["total"] == task.spec.evaluated for entry in whole["results"])
    first = await get(client, f"/v1/tasks/{id}/results?limit=2")
    rest = await get(client, f"/v1/tasks/{id}/results?limit=2&after={first['next_after']}")
    assert first["results"] + rest["results"] == whole["results"] and rest["next_after"] is None
    view.compete()
    assert [entry["epoch"] for entry in (await get(client, f"/v1/tasks/{id}/results"))["results"]] == [1] * 3 + [0] * 3
    assert await code(client, f"/v1/tasks/{random_hash()}/results", 404) == "unknown_task"
    assert await code(client, f"/v1/tasks/{id}/results?after={random_hash()}", 404) == "unknown_result"
    assert await code(client, f"/v1/tasks/{id}/results?after=zz", 400) == "bad_id"


def check(answer, name):
    """What the answer proves to somebody who knows the block's id only."""
    proof = StateProof.decode(bytes.fromhex(answer["proof"]), 1 << 24)
    state = proven(proof, bytes.fromhex(answer["header"]["id"]))
    assert [entry.key for entry in proof.entries] == list(keys_of(answer["kind"], name))
    claim = read_claim(answer["kind"], name, state)
    assert claim == answer["claim"]
    return claim


async def claim(view, client, kind, name):
    text = address_text(name) if kind == "account" else name.hex()
    answer = await get(client, f"/v1/proofs/{kind}/{text}")
    assert answer["header"]["id"] == view.chain.tip.id.hex()
    return check(answer, name)


@pytest.mark.parametrize("kind", ["account", "task", "commit", "result", "seat"])
async def test_absence(view, client, kind):
    name = bytes.fromhex(random_hash())[: 20 if kind == "account" else 32]
    for _ in range(2):
        shown = await claim(view, client, kind, name)
        assert shown["exists"] is False and not shown.get("active") and not shown.get("balance")
        view.compete()


async def test_presence(view, client):
    world = view.world
    bootstrap = records.active_seats(view.chain.state)[0]
    seat = await claim(view, client, "seat", bootstrap)
    assert seat["active"] and seat["owner"] == address_text(world.keys[0].address)
    world.mint_to(1)
    commit = world.commit(world.keys[1], [world.find(9, 150)])
    world.mint(commit)
    shown = await claim(view, client, "commit", commit.id)
    assert shown["exists"] and shown["owner"] == address_text(world.keys[1].address) and shown["leaves"] == 1
    world.mint_to(0)
    assert not (await claim(view, client, "commit", commit.id))["exists"], "its epoch is settled"
    reveals = view.compete()
    result = await claim(view, client, "result", reveals[0].id)
    assert (result["correct"], result["seated"]) == (150, True)
    won = await claim(view, client, "seat", reveals[0].id)
    assert won["exists"] and not won["active"], "it can still be challenged"
    world.activate()
    won = await claim(view, client, "seat", reveals[0].id)
    assert won["active"] and won["owner"] == address_text(world.keys[1].address)
    old = await claim(view, client, "seat", bootstrap)
    assert old["exists"] and not old["active"], "results have taken the seats over"
    account = await claim(view, client, "account", world.keys[2].address)
    assert account["exists"] and account["nonce"] > 0
    task = await claim(view, client, "task", records.ids(view.chain.state, records.BUILT_IN)[0])
    assert task["exists"] and task["name"] == view.genesis.tasks[0].spec.name


async def test_a_proof_of_something_else_is_none(view, client):
    answer = await get(client, f"/v1/proofs/account/{address_text(view.world.keys[1].address)}")
    proof = StateProof.decode(bytes.fromhex(answer["proof"]), 1 << 24)
    forged = dataclasses.replace(proof, header=dataclasses.replace(proof.header, state_root=bytes(32)))
    for wrong, block in ((forged, forged.header.id), (forged, proof.header.id), (proof, bytes(32))):
        with pytest.raises(ValueError, match="proof"):
            proven(wrong, block)


async def test_malformed_requests(client):
    assert await code(client, "/v1/proofs/block/1", 404) == "unknown_kind"
    assert await code(client, "/v1/proofs/account/1", 400) == "bad_address"
    assert await code(client, "/v1/proofs/seat/1", 400) == "bad_id"
