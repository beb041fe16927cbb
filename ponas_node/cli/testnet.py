"""`ponas testnet`: a whole network on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.live import Live

from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.options import Subparsers, add_command
from ponas_node.testnet.audit import audit
from ponas_node.testnet.layout import Layout, check_ports, prepare
from ponas_node.testnet.screen import render
from ponas_node.testnet.supervisor import Supervisor
from ponas_node.testnet.watch import Watcher

_SETTLED_SLOTS = 6  # slots after the last wanted epoch before the network is stopped

EXAMPLES = """\
  ponas testnet                            watch it; Ctrl-C stops it, the next start goes on
  ponas testnet --epochs 3 --json out.json run three epochs without a terminal and write a report
"""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "testnet",
        "run four nodes, a pool with two members and a solo miner on this machine",
        "Runs four nodes, a pool with two members and a solo miner on this machine, each as a process of its own, with "
        "a live screen.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("--data", metavar="DIR", type=Path, default=Path("testnet-data"), help="its folder (default: %(default)s)")
    add("--port", metavar="N", type=int, default=18640, help="first of 12 ports; 0: any free (default: %(default)s)")
    add(
        "--epochs",
        metavar="N",
        type=int,
        help="stop after N epochs and judge the network: exit code 0 if all went well",
    )
    add("--json", metavar="FILE", type=Path, help="write the report there (with --epochs)")
    add("--prepare", action="store_true", help="only make keys, wallets and genesis in the folder (for containers)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the testnet."""
    if arguments.json is not None and arguments.epochs is None:
        raise UserError("--json needs --epochs: a report is written when the testnet ends by itself.", USAGE)
    if arguments.epochs is not None and arguments.epochs < 1:
        raise UserError("--epochs must be at least 1.", USAGE)
    try:
        layout = prepare(arguments.data, arguments.port)
        layout.genesis()  # an earlier version may have made it
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"The testnet in {arguments.data} cannot be opened ({error}): mend or delete it.") from error
    if arguments.prepare:
        return 0
    try:
        check_ports(layout)
    except OSError as error:
        raise UserError(f"The testnet cannot start: {error.strerror}.") from error
    return asyncio.run(_run(layout, arguments.epochs, arguments.json))


async def _run(layout: Layout, epochs: int | None, report: Path | None) -> int:
    started = time.time()
    supervisor, watcher = Supervisor(layout), Watcher(layout)
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    keeper = asyncio.create_task(supervisor.run())
    try:
        await _watch(layout, supervisor, watcher, epochs, interrupted)
    finally:
        killed = await supervisor.stop()
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
    if epochs is None:
        return 0
    if interrupted.is_set():
        return 130
    return _judge(layout, epochs, report, started, supervisor, watcher, killed)


async def _watch(
    layout: Layout, supervisor: Supervisor, watcher: Watcher, epochs: int | None, interrupted: asyncio.Event
) -> None:
    console = Console()
    parameters = layout.genesis().consensus
    first = max(0, parameters.epoch_of(parameters.slot_at(time.time())))
    last_slot = None if epochs is None else parameters.start(first + epochs) + _SETTLED_SLOTS
    live = Live(console=console, refresh_per_second=2, screen=console.is_terminal) if console.is_terminal else None
    line = ""
    async with aiohttp.ClientSession() as session:
        with live or contextlib.nullcontext():
            while not interrupted.is_set():
                snapshot = await watcher.poll(session)
                if live is not None:
                    live.update(render(snapshot, layout, parameters, supervisor.restarts, watcher.names))
                else:
                    line = _print_progress(console, watcher, line)
                if last_slot is not None and parameters.slot_at(time.time()) >= last_slot:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(interrupted.wait(), 1)


def _print_progress(console: Console, watcher: Watcher, last: str) -> str:
    """One line whenever the phase changes."""
    status = next(iter(watcher.snapshot.status.values()), None)
    if status is None:
        return last
    line = f"epoch {status['epoch']} {status['phase']}"
    if line != last:
        heights = sorted(int(s["height"]) for s in watcher.snapshot.status.values())
        console.print(f"{time.strftime('%H:%M:%S')} {line}, heights {heights}", highlight=False)
    return line


def _judge(
    layout: Layout,
    epochs: int,
    report: Path | None,
    started: float,
    supervisor: Supervisor,
    watcher: Watcher,
    killed: list[str],
) -> int:
    first = watcher.snapshot.first_member_payment
    outcome = audit(layout, epochs)
    outcome |= {
        "seconds": round(time.time() - started, 1),
        "seconds_to_first_member_payment": None if first is None else round(first - started, 1),
        "restarts": supervisor.restarts,
        "reorgs": watcher.reorgs,
    }
    outcome["problems"] += [f"{name} did not stop by itself and was killed" for name in killed]
    outcome["problems"] += [
        f"{name} ended by itself {n} times; see its log" for name, n in supervisor.crashes.items() if n
    ]
    outcome["ok"] = not outcome["problems"]
    text = json.dumps(outcome, indent=2) + "\n"
    if report is not None:
        report.write_text(text)
    Console().print(text, highlight=False, end="")
    return 0 if outcome["ok"] else 1
