"""The testnet's live screen."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consensus.parameters import ConsensusParameters
from ponas_node.testnet.layout import FULL_NODES, Layout
from ponas_node.testnet.watch import Snapshot
from ponas_node.units import format_amount

_EXPLAINED = {
    "before_genesis": "the processes start",
    "commit": "miners train architectures and seal what they find",
    "delay": "sealing is closed; the delay function computes the beacon that draws the test samples",
    "reveal": "miners open their best; every node evaluates each of them again, exactly",
    "settle": "the best distinct architectures win seats, which mint once nobody can challenge them any more",
}


def render(
    snapshot: Snapshot, layout: Layout, parameters: ConsensusParameters, restarts: dict[str, int], names: dict[str, str]
) -> Group:
    """The whole screen. `names` gives participants' names by address."""
    parts: list[RenderableType] = [_head(snapshot, parameters)]
    parts.append(Columns([_nodes(snapshot, restarts), _seats(snapshot, names)]))
    parts.append(Columns([_pool(snapshot, names), _payments(snapshot)]))
    parts.append(
        Text(f"Explorer {layout.url('node1')}/   API {layout.url('node1')}/v1/status   Logs {layout.root}/logs")
    )
    parts.append(Text("Ctrl-C stops everything; the next start goes on from here.", style="dim"))
    return Group(*parts)


def _clock(snapshot: Snapshot) -> dict[str, object]:
    return next(iter(snapshot.status.values()), {})


def _head(snapshot: Snapshot, parameters: ConsensusParameters) -> Panel:
    clock = _clock(snapshot)
    phase = str(clock.get("phase", "before_genesis"))
    slot = int(str(clock.get("slot", -1)))
    done = parameters.offset(slot) if slot >= 0 else 0
    line = Text.assemble(
        ("epoch ", "dim"), str(clock.get("epoch")), ("  slot ", "dim"), str(slot), ("  phase ", "dim"), (phase, "bold"),
        (f"  {float(str(clock.get('seconds_to_next_phase', 0))):.0f} s left", "dim"),
    )  # fmt: skip
    explained = Text(_EXPLAINED.get(phase, ""), style="italic")
    bar = ProgressBar(total=parameters.epoch_slots, completed=done)
    return Panel(Group(line, explained, _best(snapshot), bar), title="ponas testnet")


def _best(snapshot: Snapshot) -> Text:
    ranking = snapshot.last_epoch.get("ranking") or []
    if not ranking:
        return Text("no competition is settled yet", style="dim")
    best = ranking[0]
    share = best["correct"] / best["total"]
    return Text.assemble(
        (f"best of epoch {snapshot.last_epoch['number']}: ", "dim"), (f"{share:.2%} ", "bold green"),
        f"({best['correct']}/{best['total']})  {best['architecture']}",
    )  # fmt: skip


def _nodes(snapshot: Snapshot, restarts: dict[str, int]) -> Table:
    table = Table("node", "height", "tip", "peers", "mempool", "", title="Nodes")
    for name in FULL_NODES:
        status = snapshot.status.get(name)
        if status is None:
            table.add_row(name, "-", "-", "-", "-", Text("not up", style="red"))
            continue
        note = "syncing" if status["syncing"] else ""
        if restarts.get(name):
            note += f" restarted {restarts[name]}x"
        table.add_row(
            name, str(status["height"]), status["tip"][:12], str(status["peers"]), str(status["mempool"]), note
        )
    return table


def _seats(snapshot: Snapshot, names: dict[str, str]) -> Table:
    held: dict[str, int] = {}
    for seat in snapshot.seats:
        held[seat["owner"]] = held.get(seat["owner"], 0) + 1
    pending = sum(len(group["seats"]) for group in snapshot.pending)
    table = Table("owner", "seats", title=f"Seats ({len(snapshot.seats)} mint, {pending} can still be challenged)")
    for owner, count in sorted(held.items(), key=lambda item: -item[1]):
        table.add_row(names.get(owner, _short(owner)), "█" * count)
    return table


def _pool(snapshot: Snapshot, names: dict[str, str]) -> Table:
    pool = snapshot.pool
    results = f"{pool.get('results', 0)} results, {pool.get('leases', 0)} leases"
    table = Table("member", "shares", "points", "of them paid", title=f"Pool ({results})")
    for member in pool.get("member_list", []):
        row = [
            names.get(member["address"], _short(member["address"])),
            *(str(member[name]) for name in ("shares", "earned", "paid")),
        ]
        table.add_row(*row)
    return table


def _short(address: str) -> str:
    return address[:14] + "…"


def _payments(snapshot: Snapshot) -> Table:
    table = Table("height", "minted by", "paid to", title="Last payouts")
    for payment in snapshot.payments[-8:]:
        paid = ", ".join(f"{name[:10]} {format_amount(amount)}" for name, amount in payment.paid.items())
        table.add_row(str(payment.height), payment.minter[:12], paid)
    return table
