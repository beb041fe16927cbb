"""The live screen of `ponas mine`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ponas_node.miner.state import MinerState

MOST_SLOTS = 24
LINES = 8


def render(state: MinerState) -> Group:
    """The whole screen."""
    parts: list[RenderableType] = [_head(state), _shares(state), _slots(state)]
    parts.append(Text("\n".join(list(state.lines)[-LINES:]), style="dim", no_wrap=True, overflow="ellipsis"))
    parts.append(Text("Ctrl-C stops; finished shares are kept, and sent at the next start.", style="dim"))
    return Group(*parts)


def _head(state: MinerState) -> Panel:
    link = Text("connected to ", style="green") if state.connected else Text("not connected to ", style="bold red")
    link.append(state.url, style="bold")
    if state.connected:
        link.append(f"  pool {state.pool}", style="dim")
    elif state.trouble:
        link.append(f"  {state.trouble}", style="red")
    epoch = "-" if state.epoch is None else str(state.epoch)
    work = Text.assemble(("epoch ", "dim"), epoch, ("  task ", "dim"), state.task or "none open now")
    return Panel(Group(link, work, _best(state)), title="ponas mine")


def _best(state: MinerState) -> Text:
    if not state.best_total:
        return Text("nothing is trained yet", style="dim")
    share = state.best_correct / state.best_total
    return Text.assemble(
        ("best find ", "dim"), (f"{share:.2%} ", "bold green"),
        f"({state.best_correct}/{state.best_total})  {state.best_text}",
    )  # fmt: skip


def _shares(state: MinerState) -> Table:
    table = Table.grid(padding=(0, 2))
    waiting = f", {state.waiting} on their way" if state.waiting else ""
    table.add_row("trained", str(state.trained))
    table.add_row("shares accepted", f"{state.accepted}{waiting}")
    rejected = ", ".join(f"{count} {code}" for code, count in state.rejected.most_common())
    table.add_row("shares rejected", Text(rejected or "0", style="red" if rejected else ""))
    for reason in state.reasons:
        table.add_row("", Text(reason, style="red"))
    table.add_row("points of this run", str(state.points))
    table.add_row("next payout table", _standing(state))
    return table


def _standing(state: MinerState) -> str:
    standing = state.standing
    if standing is None:
        return "-"
    if not standing.place:
        return f"no points yet, {standing.members} members have some"
    share = standing.points / max(1, standing.total)
    return f"place {standing.place} of {standing.members}: {standing.points} points, {share:.2%} of all"


def _slots(state: MinerState) -> Table:
    table = Table("slot", "architecture", "", "steps", title="Trainings", expand=True)
    table.columns[1].overflow, table.columns[1].no_wrap, table.columns[1].ratio = "ellipsis", True, 3
    for number, slot in sorted(state.slots.items())[:MOST_SLOTS]:
        if slot.text:
            bar = ProgressBar(total=max(1, slot.steps), completed=slot.step, width=24)
            table.add_row(str(number), slot.text, bar, f"{slot.step}/{slot.steps}")
        else:
            table.add_row(str(number), Text("waits for a lease", style="dim"), "", "")
    if len(state.slots) > MOST_SLOTS:
        table.add_row("", Text(f"and {len(state.slots) - MOST_SLOTS} more", style="dim"), "", "")
    return table
