"""Proofs of what the chain's state holds, which a client checks against a header that it trusts."""

from __future__ import annotations

from aiohttp import web

from chain.proofs import proven
from consensus.claims import KINDS, keys_of, read_claim
from ponas_node.api.errors import not_found
from ponas_node.api.parameters import path_address, path_hash
from ponas_node.api.render import header_json
from ponas_node.api.view import view_of


async def proof(request: web.Request) -> web.Response:
    """GET /v1/proofs/{kind}/{name}: presence or absence in the state after the tip."""
    kind, text = request.match_info["kind"], request.match_info["name"]
    if kind not in KINDS:
        raise not_found("unknown_kind", f"There are proofs of {', '.join(KINDS)}.")
    name = path_address(request, "name") if kind == "account" else path_hash(request, "name")
    made = view_of(request).chain.prove(keys_of(kind, name))
    shown = proven(made, made.header.id)
    return web.json_response({
        "kind": kind,
        "name": text,
        "header": header_json(made.header),
        "claim": read_claim(kind, name, shown),
        "proof": made.encode().hex(),
    })  # fmt: skip


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    return [web.get("/v1/proofs/{kind}/{name}", proof)]
