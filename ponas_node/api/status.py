"""How the node and its network stand: status, genesis and peers."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

from aiohttp import web

from chain import accounts
from consensus import records
from ponas_node.api.render import Json
from ponas_node.api.view import NodeView, view_of
from ponas_node.units import format_amount


@cache
def version() -> str:
    """The program's version, as installed."""
    try:
        return metadata.version("ponas-node")
    except metadata.PackageNotFoundError:
        return "0+source"


def clock_json(view: NodeView) -> Json:
    """Slot, epoch and phase by the clock, and the seconds until the phase changes. Before genesis there is no epoch."""
    parameters, now, slot = view.genesis.consensus, view.now(), view.slot()
    if slot < 0:
        wait = max(0.0, parameters.time_of(0) - now)
        return {"slot": slot, "epoch": None, "phase": "before_genesis", "seconds_to_next_phase": round(wait, 3)}
    offset = parameters.offset(slot)
    ends = (parameters.commit_close, parameters.reveal_open, parameters.reveal_close, parameters.epoch_slots)
    end = next(end for end in ends if offset < end)
    wait = max(0.0, parameters.time_of(slot - offset + end) - now)
    return {
        "slot": slot,
        "epoch": parameters.epoch_of(slot),
        "phase": parameters.phase(slot).value,
        "seconds_to_next_phase": round(wait, 3),
    }


async def status(request: web.Request) -> web.Response:
    """GET /v1/status: the node at a glance."""
    view = view_of(request)
    tip, state = view.chain.tip, view.chain.state
    coins = accounts.supply(state)
    sync = dict(view.sync_status())
    return web.json_response({
        "network": view.genesis.network.hex(),
        "name": view.genesis.name,
        "version": version(),
        "height": tip.height,
        "tip": tip.id.hex(),
        "tip_slot": tip.slot,
        "state_root": tip.state_root.hex(),
        **clock_json(view),
        "time": view.now(),
        "clock": asdict(view.clock_status()),
        "seats": len(records.active_seats(state)),
        "pending_seats": len(records.pending_seats(state)),
        "supply": coins,
        "supply_text": format_amount(coins),
        "peers": len(view.peers()),
        "syncing": bool(sync.get("syncing")),
        "sync": sync,
        "checkpoints": [
            {"height": each.height, "block": each.id.hex(), "reached": each.height <= tip.height}
            for each in view.chain.checkpoints
        ],
        "mempool": len(view.mempool),
        "pool": view.pool_summary() is not None,
        "counters": dict(view.counters()),
    })  # fmt: skip


async def genesis(request: web.Request) -> web.Response:
    """GET /v1/genesis: the genesis file, as a node needs it to join."""
    return web.Response(text=view_of(request).genesis.to_json(), content_type="application/json")


async def peers(request: web.Request) -> web.Response:
    """GET /v1/peers: connected peers, and what was refused of late and why."""
    view = view_of(request)
    return web.json_response({"peers": list(view.peers()), "refusals": list(view.refusals())})


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    table: list[tuple[str, Any]] = [("/v1/status", status), ("/v1/genesis", genesis), ("/v1/peers", peers)]
    return [web.get(path, handler) for path, handler in table]
