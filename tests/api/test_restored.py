"""The API of a node whose state was restored from a snapshot: what it has it shows, what it lacks is not found."""

from __future__ import annotations

import pytest

from chain.chain import Chain
from chain.keys import address_text
from chain.snapshot import restore_snapshot, write_snapshot
from chain.store import Store
from consensus import records
from tests.api.test_endpoints import code, get


def silent(done: int, most: int) -> None:
    """No progress is shown."""


@pytest.fixture
def restored(view, tmp_path):
    """`view` on a chain that was restored at its tip and has grown by three blocks since."""
    view.compete()
    view.world.activate()
    full = view.world.chain
    base = full.height
    write_snapshot(full.store, full.tip, base, tmp_path / "file", silent)
    restore_snapshot(tmp_path / "file", view.rules, full.tip.id, tmp_path / "light", silent)
    for _ in range(3):
        view.world.mint()
    with Store(tmp_path / "light", view.genesis.network) as store:
        view.chain = Chain(store, view.rules)
        for height in range(base + 1, full.height + 1):
            view.chain.add_block(full.block_at(height))
        yield base


async def test_what_it_shows(view, client, restored):
    tip = view.chain.height
    assert tip == view.world.chain.height == restored + 3
    blocks = await get(client, "/v1/blocks?limit=100")
    assert [block["height"] for block in blocks["blocks"]] == [*range(tip, restored - 1, -1), 0]
    assert (await get(client, f"/v1/blocks/{restored}"))["confirmations"] == 4
    assert await code(client, f"/v1/blocks/{restored - 1}", 404) == "unknown_block"
    assert (await get(client, "/v1/blocks/0"))["height"] == 0
    for path in ("/v1/status", "/v1/epochs/current", "/v1/epochs/0", "/v1/seats", "/v1/leader", "/v1/tasks"):
        await get(client, path)
    owner = address_text(view.world.keys[0].address)
    minted = (await get(client, f"/v1/accounts/{owner}/blocks"))["blocks"]
    assert all(block["height"] >= restored for block in minted)
    account = await get(client, f"/v1/accounts/{address_text(view.world.keys[1].address)}")
    assert account["nonce"] > 0 and all(entry["height"] >= restored for entry in account["transactions"])
    task = records.ids(view.chain.state, records.BUILT_IN)[0]
    results = await get(client, f"/v1/tasks/{task.hex()}/results")
    assert len(results["results"]) == 3, "the state has all results, so their index has them"
    proof = await get(client, f"/v1/proofs/seat/{results['results'][0]['id']}")
    assert proof["claim"]["active"] is True
