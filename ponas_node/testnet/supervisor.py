"""Starts the testnet's processes, restarts those that die, and stops them cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import IO

from ponas_node.testnet.layout import EVERYBODY, Layout

_GRACE = 15.0  # seconds to stop by itself before a process is killed
_RESTART_AFTER = 2.0
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Supervisor:
    """The processes of one testnet.

    `restarts` counts by name how often one was started again, `crashes` how often it had ended by itself rather than
    by somebody's SIGKILL.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.restarts = dict.fromkeys(EVERYBODY, 0)
        self.crashes = dict.fromkeys(EVERYBODY, 0)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    async def run(self) -> None:
        """Keep every process alive until `stop`."""
        for name in EVERYBODY:
            self._start(name)
        while not self._stopping:
            await asyncio.sleep(0.5)
            for name, process in list(self.processes.items()):
                if process.poll() is not None and not self._stopping:
                    self.restarts[name] += 1
                    self.crashes[name] += process.returncode != -signal.SIGKILL
                    await asyncio.sleep(_RESTART_AFTER)
                    if not self._stopping:
                        self._start(name)

    async def stop(self) -> list[str]:
        """Stop all; answers the names of those that had to be killed."""
        self._stopping = True
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + _GRACE
        while any(process.poll() is None for process in self.processes.values()):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        killed = [name for name, process in self.processes.items() if process.poll() is None]
        for name in killed:
            self.processes[name].kill()
            self.processes[name].wait()
        return killed

    def _start(self, name: str) -> None:
        with self._log(name) as log:
            self.processes[name] = subprocess.Popen(
                self.layout.command(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ, OMP_NUM_THREADS="1"),
                start_new_session=True,  # Ctrl-C reaches the launcher only, which stops the others in order
                preexec_fn=_die_with_parent,
            )

    def _log(self, name: str) -> IO[bytes]:
        return self.layout.log(name).open("ab")


def _die_with_parent() -> None:
    """Have Linux stop this process when the launcher is killed; elsewhere it would go on by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
