"""What the database's indexes know: transactions and blocks of an address, results of a task. The newest first."""

from __future__ import annotations

from itertools import islice
from typing import Any

from aiohttp import web

from chain.keys import address_text
from consensus import records
from ponas_node.api.errors import not_found
from ponas_node.api.parameters import page_size, parse_hash, path_address, path_hash, query_number
from ponas_node.api.render import block_summary, history_entry, result_summary
from ponas_node.api.view import view_of

_HASH_BYTES = 32


async def transactions(request: web.Request) -> web.Response:
    """GET /v1/accounts/{address}/transactions: those before the place (`before` a height, `index` in its block)."""
    chain = view_of(request).chain
    address = path_address(request)
    height, index = query_number(request, "before"), query_number(request, "index") or 0
    before = None if height is None else (min(height, 2**63), min(index, 2**31))
    size = page_size(request)
    found = chain.address_history(address, size, before)
    last = found[-1] if len(found) == size else None
    return web.json_response({
        "address": address_text(address),
        "transactions": [history_entry(*entry) for entry in found],
        "next": None if last is None else {"before": last[1], "index": last[2]},
    })  # fmt: skip


async def minted(request: web.Request) -> web.Response:
    """GET /v1/accounts/{address}/blocks: headers of the blocks that this owner's seats minted; `before` a height."""
    chain = view_of(request).chain
    address = path_address(request)
    before = query_number(request, "before")
    size = page_size(request)
    heights = list(islice(chain.store.minted(address, None if before is None else min(before, 2**63)), size))
    blocks = [block for height in heights if (block := chain.block_at(height)) is not None]
    return web.json_response({
        "address": address_text(address),
        "blocks": [block_summary(block) for block in blocks],
        "next_before": heights[-1] if len(heights) == size else None,
    })  # fmt: skip


async def results(request: web.Request) -> web.Response:
    """GET /v1/tasks/{id}/results: all results of a task; `after` the id of one of them."""
    chain = view_of(request).chain
    task = records.task(chain.state, path_hash(request))
    if task is None:
        raise not_found("unknown_task", "No task of this chain has that id.")
    after = b""
    if "after" in request.query:
        last = records.result(chain.state, parse_hash(request.query["after"]))
        if last is None or last.task != task.id:
            raise not_found("unknown_result", "The task has no result with the id that `after` names.")
        after = records.listed_result(last)[len(task.id) :]
    size = page_size(request)
    names = list(islice(chain.store.listed(task.id, after), size))
    ids = [name[-_HASH_BYTES:] for name in names]
    found = [result for id in ids if (result := records.result(chain.state, id)) is not None]
    return web.json_response({
        "task": task.id.hex(),
        "results": [
            {**result_summary(result, task.spec), "epoch": result.epoch, "height": result.height} for result in found
        ],
        "next_after": ids[-1].hex() if len(ids) == size else None,
    })  # fmt: skip


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    table: list[tuple[str, Any]] = [
        ("/v1/accounts/{address}/transactions", transactions),
        ("/v1/accounts/{address}/blocks", minted),
        ("/v1/tasks/{id}/results", results),
    ]
    return [web.get(path, handler) for path, handler in table]
