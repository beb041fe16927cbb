"""Blocks, transactions, accounts and the mempool."""

from __future__ import annotations

from itertools import islice
from typing import Any

from aiohttp import web

from chain import accounts
from chain.errors import BadEncoding
from chain.immature import outputs_at
from chain.keys import address_text
from chain.types import MAX_BODY, Transaction
from ponas_node.api.errors import ApiError, not_found
from ponas_node.api.limits import LARGEST_PAGE
from ponas_node.api.parameters import (
    json_body,
    page_size,
    parse_hash,
    parse_number,
    path_address,
    path_hash,
    query_number,
)
from ponas_node.api.render import block_json, block_summary, history_entry, transaction_json, transaction_summary
from ponas_node.api.submit import SUBMISSIONS
from ponas_node.api.view import NodeView, view_of
from ponas_node.units import format_amount

MAX_TRANSACTION = MAX_BODY + 1024  # beside the body a transaction has about 130 bytes
_HASH_DIGITS = 64


async def blocks(request: web.Request) -> web.Response:
    """GET /v1/blocks: headers, the newest first; `before` a height, `limit` so many."""
    chain = view_of(request).chain
    before = query_number(request, "before")
    first = chain.height if before is None else min(before - 1, chain.height)
    found = []
    for height in range(first, max(-1, first - page_size(request)), -1):
        block = chain.block_at(height)
        if block is not None:
            found.append(block_summary(block))
    following = found[-1]["height"] if found and found[-1]["height"] > 0 else None
    return web.json_response({"blocks": found, "next_before": following})


async def block(request: web.Request) -> web.Response:
    """GET /v1/blocks/{ref}: one block by height or by id."""
    chain = view_of(request).chain
    ref = request.match_info["ref"]
    if len(ref) == _HASH_DIGITS:
        found = chain.block(parse_hash(ref))
    else:
        found = chain.block_at(min(parse_number(ref, "A block's height"), 2**63))
    if found is None:
        raise not_found("unknown_block", "This node has no such block; it may not have synced that far.")
    confirmed = chain.id_at(found.header.height) == found.id
    confirmations = chain.height - found.header.height + 1 if confirmed else 0
    return web.json_response({**block_json(found, confirmed), "confirmations": confirmations})


async def transaction(request: web.Request) -> web.Response:
    """GET /v1/transactions/{id}: from the best chain or from the mempool."""
    view = view_of(request)
    id = path_hash(request)
    place = view.chain.transaction(id)
    if place is not None:
        found, height, index = place
        where = {
            "status": "confirmed",
            "height": height,
            "index": index,
            "block": (view.chain.id_at(height) or b"").hex(),
            "confirmations": view.chain.height - height + 1,
        }
        return web.json_response({**transaction_json(found), **where})
    waiting = view.mempool.get(id)
    if waiting is None:
        raise not_found("unknown_transaction", "This transaction is neither in a block nor waiting for one.")
    return web.json_response({**transaction_json(waiting), "status": "pending"})


async def send(request: web.Request) -> web.Response:
    """POST /v1/transactions: take {"transaction": hex of the canonical bytes}."""
    body = await json_body(request)
    text = body.get("transaction")
    if not isinstance(text, str) or body.keys() != {"transaction"}:
        raise ApiError(400, "bad_json", 'The body must be {"transaction": the canonical bytes in hex}, and no more.')
    if len(text) > 2 * MAX_TRANSACTION:
        raise ApiError(413, "too_large", f"A transaction has at most {MAX_TRANSACTION} bytes.")
    try:
        # bytes.fromhex skips blanks; one encoding for one value holds here too.
        data = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        data = b""
    if not data:
        raise ApiError(400, "bad_hex", "transaction must be hexadecimal digits, two for each byte.")
    try:
        parsed = Transaction.decode(data, MAX_TRANSACTION)
    except BadEncoding as error:
        raise ApiError(400, error.code, f"These bytes are no transaction: {error}.") from error
    done = await request.app[SUBMISSIONS].submit(parsed)
    answer = {"id": parsed.id.hex(), "status": "pending" if done else "checking"}
    return web.json_response(answer, status=200 if done else 202)


async def account(request: web.Request) -> web.Response:
    """GET /v1/accounts/{address}: balance, nonce, what is still immature, and the newest transactions."""
    view = view_of(request)
    address = path_address(request)
    held = accounts.account(view.chain.state, address)
    pending = [waiting for waiting in view.mempool.transactions() if waiting.address == address]
    immature = immature_balance(view, address)
    history = view.chain.address_history(address, page_size(request))
    return web.json_response({
        "address": address_text(address),
        "balance": held.balance,
        "balance_text": format_amount(held.balance),
        "immature": immature,
        "immature_text": format_amount(immature),
        "nonce": held.nonce,
        "next_nonce": view.mempool.next_nonce(view.chain.state, address),
        "height": view.chain.height,
        "pending": [transaction_summary(waiting) for waiting in pending[:LARGEST_PAGE]],
        "transactions": [history_entry(*entry) for entry in history],
    })  # fmt: skip


async def mempool(request: web.Request) -> web.Response:
    """GET /v1/mempool: how much waits, and the first transactions in the order in which a block would take them."""
    pool = view_of(request).mempool
    return web.json_response({
        "count": len(pool),
        "bytes": pool.size,
        "ready": pool.ready,
        "transactions": [transaction_summary(found) for found in islice(pool.best_first(), page_size(request))],
    })  # fmt: skip


def immature_balance(view: NodeView, address: bytes) -> int:
    """What coinbases have paid to `address` that cannot be spent yet."""
    height = view.chain.height
    first = max(1, height - view.genesis.ledger.coinbase_maturity + 1)
    return sum(
        output.amount
        for paid in range(first, height + 1)
        for output in outputs_at(view.chain.state, paid)
        if output.address == address
    )


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    table: list[tuple[str, Any]] = [
        ("/v1/blocks", blocks),
        ("/v1/blocks/{ref}", block),
        ("/v1/transactions/{id}", transaction),
        ("/v1/accounts/{address}", account),
        ("/v1/mempool", mempool),
    ]
    return [*(web.get(path, handler) for path, handler in table), web.post("/v1/transactions", send)]
