"""Proofs of what the chain's state holds, which a client checks against a header that it trusts."""

from __future__ import annotations

from aiohttp import web

from chain.keys import BadAddress, parse_address
from chain.proofs import proven
from consensus.claims import KINDS, keys_of, read_claim
from ponas_node.api.errors import ApiError, not_found, sentence
from ponas_node.api.parameters import parse_hash
from ponas_node.api.render import header_json
from ponas_node.api.view import view_of


async def proof(request: web.Request) -> web.Response:
    """GET /v1/proofs/{kind}/{name}: presence or absence in the state after the tip."""
    kind, text = request.match_info["kind"], request.match_info["name"]
    if kind not in KINDS:
        raise not_found("unknown_kind", f"There are proofs of {', '.join(KINDS)}.")
    name = _address(text) if kind == "account" else parse_hash(text)
    made = view_of(request).chain.prove(keys_of(kind, name))
    shown = proven(made, made.header.id)
    return web.json_response({
        "kind": kind,
        "name": text,
        "header": header_json(made.header),
        "claim": read_claim(kind, name, shown),
        "proof": made.encode().hex(),
    })  # fmt: skip


def _address(text: str) -> bytes:
    try:
        return parse_address(text)
    except BadAddress as error:
        raise ApiError(400, "bad_address", sentence(str(error))) from error


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    return [web.get("/v1/proofs/{kind}/{name}", proof)]
