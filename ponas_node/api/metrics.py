"""GET /metrics in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from chain import accounts
from consensus import records
from ponas_node.api.status import clock_json, version
from ponas_node.api.view import NodeView, view_of

_PREFIX = "ponas_"
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]")

_HELP = {
    "height": "Height of the tip.",
    "tip_slot": "Slot of the tip.",
    "slot": "Slot by the node's clock; negative before genesis.",
    "epoch": "Epoch by the node's clock; -1 before genesis.",
    "seats": "Active seats.",
    "supply_units": "Coins that exist, in the smallest unit.",
    "peers": "Connected peers.",
    "mempool_transactions": "Transactions that wait for a block.",
    "syncing": "1 while the node catches up with its peers, else 0.",
    "epoch_commits": "Commits of the epoch that is open at the tip.",
    "epoch_reveals": "Results revealed in the epoch that is open at the tip.",
    "reorgs_total": "Reorganisations since the node started.",
}
_POOL = {
    "members": "Members with a share in the pool's ledger.",
    "members_seen": "Members seen of late.",
    "shares": "Shares in the pool's ledger.",
    "results": "Verified results of the current search.",
    "leases": "Live leases.",
    "waiting_for_backup": "Architectures that wait for another member.",
    "earned": "Points earned by members.",
    "paid": "Points paid to members.",
    "carried": "Points carried over.",
    "reserved": "Points in payout tables that may still pay.",
}


def metrics_text(view: NodeView) -> str:
    """All metrics. Names that end in `_total` are counters, all others gauges."""
    chain, clock = view.chain, clock_json(view)
    epoch = records.current_epoch(chain.state)
    values: dict[str, float] = {
        "height": chain.tip.height,
        "tip_slot": chain.tip.slot,
        "slot": clock["slot"],
        "epoch": -1 if clock["epoch"] is None else clock["epoch"],
        "seats": len(records.active_seats(chain.state)),
        "pending_seats": len(records.pending_seats(chain.state)),
        "supply_units": accounts.supply(chain.state),
        "peers": len(view.peers()),
        "mempool_transactions": len(view.mempool),
        "syncing": int(bool(view.sync_status().get("syncing"))),
        "epoch_commits": epoch.commits,
        "epoch_reveals": epoch.results,
        "reorgs_total": 0,
    }
    for name, value in view.counters().items():
        bare = _NOT_IN_NAME.sub("_", name).removeprefix(_PREFIX).removesuffix("_total")
        values[bare + "_total"] = value
    lines = [
        f"# HELP {_PREFIX}info Version and network of the node.",
        f"# TYPE {_PREFIX}info gauge",
        f'{_PREFIX}info{{version="{_label(version())}",network="{view.genesis.network.hex()}"}} 1',
    ]
    for name, value in values.items():
        lines += _metric(name, value)
    lines += _pool(view.pool_summary())
    return "\n".join(lines) + "\n"


def _pool(summary: Mapping[str, Any] | None) -> list[str]:
    """The pool that the node runs, if it runs one; its names begin with `ponas_pool_`."""
    if summary is None:
        return []
    lines = [
        line for name, what in _POOL.items() if name in summary for line in _metric(f"pool_{name}", summary[name], what)
    ]
    refused = summary.get("rejected")
    if isinstance(refused, Mapping):
        name = f"{_PREFIX}pool_shares_rejected_total"
        lines += [f"# HELP {name} Shares rejected since the node started, by code.", f"# TYPE {name} counter"]
        lines += [f'{name}{{code="{_label(code)}"}} {count}' for code, count in sorted(refused.items())]
    return lines


def _metric(name: str, value: float, text: str = "") -> list[str]:
    kind = "counter" if name.endswith("_total") else "gauge"
    text = text or _HELP.get(
        name, name.removesuffix("_total").replace("_", " ").capitalize() + ", as the node counts it."
    )
    return [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}", f"{_PREFIX}{name} {_number(value)}"]


def _number(value: float) -> str:
    """A sample as Prometheus parses it."""
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def metrics(request: web.Request) -> web.Response:
    """The metrics of the node behind the request."""
    text = metrics_text(view_of(request))
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
