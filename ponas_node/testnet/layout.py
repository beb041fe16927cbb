"""The testnet's folder: keys, genesis and ports are made once, then kept, so that the next start goes on."""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from chain.keys import PrivateKey
from consensus.genesis import Genesis
from ponas_node.testnet.genesis import testnet_genesis
from ponas_node.wallet import create_wallet, read_wallet

NODES = ("node1", "node2", "node3", "node4")
POOL, SOLO = "pool", "solo"
ONE = ("--slots", "1")  # training at a time: the participants share a machine
MEMBERS = ("member1", "member2")
FULL_NODES = (*NODES, POOL, SOLO)
EVERYBODY = (*FULL_NODES, *MEMBERS)
SPARE = ("member-gpu",)  # has a wallet, but runs in containers with a GPU only
_START_DELAY = 12.0  # seconds between making the genesis and its first slot, for the processes to start


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of one testnet is. `ports` maps a full node's name to (p2p, API)."""

    root: Path
    ports: dict[str, tuple[int, int]]

    @property
    def genesis_path(self) -> Path:
        """The genesis file."""
        return self.root / "genesis.json"

    def wallet(self, name: str) -> Path:
        """A participant's wallet."""
        return self.root / "wallets" / f"{name}.json"

    def data(self, name: str) -> Path:
        """A participant's data directory."""
        return self.root / name

    def log(self, name: str) -> Path:
        """A participant's log file."""
        return self.root / "logs" / f"{name}.log"

    def url(self, name: str) -> str:
        """Base URL of a full node's API."""
        return f"http://127.0.0.1:{self.ports[name][1]}"

    def genesis(self) -> Genesis:
        """The genesis in use."""
        return Genesis.from_json(self.genesis_path.read_text())

    def addresses(self) -> dict[str, bytes]:
        """Address of every participant."""
        return {name: read_wallet(self.wallet(name)).address for name in EVERYBODY}

    def command(self, name: str) -> list[str]:
        """The command that runs a participant: what a stranger would type, too."""
        ponas = [sys.executable, "-m", "ponas_node.cli.main"]
        wallet, data = ["--wallet", str(self.wallet(name))], ["--data", str(self.data(name))]
        if name in MEMBERS:
            return [*ponas, "mine", "--pool", self.url(POOL), *wallet, *data, *ONE]
        p2p, api = self.ports[name]
        peers = [f"--peer=127.0.0.1:{self.ports[other][0]}" for other in FULL_NODES if other != name]
        common = [*wallet, *data, "--genesis", str(self.genesis_path), "--p2p-port", str(p2p), "--api-port", str(api)]
        if name == SOLO:
            return [*ponas, "mine", "--solo", *common, *peers, *ONE, "--prover-delay=-1"]
        # The first node proves the beacon; the others stand by, each a slot later than the one before.
        order = FULL_NODES.index(name)
        delay = f"--prover-delay={order * 2 if order < 3 else -1}"
        return [*ponas, "node", *(["--pool"] if name == POOL else []), *common, *peers, delay]


def prepare(root: Path, first_port: int) -> Layout:
    """Open the testnet in `root`, or make a new one there, its ports from `first_port` on (0: any free ones)."""
    ports_path = root / "ports.json"
    if not ports_path.exists():
        _create(root, first_port)
    ports = {name: (int(pair[0]), int(pair[1])) for name, pair in json.loads(ports_path.read_text()).items()}
    return Layout(root, ports)


def check_ports(layout: Layout) -> None:
    """Raise OSError where a port of the testnet is taken, as by another testnet."""
    for port in (port for pair in layout.ports.values() for port in pair):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            message = f"port {port} is in use: stop the other testnet or program, or choose another folder and --port"
            raise OSError(error.errno, message) from error


def _create(root: Path, first_port: int) -> None:
    for folder in ("wallets", "logs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    layout = Layout(root, {})
    keys: dict[str, PrivateKey] = {}
    for name in (*EVERYBODY, *SPARE):
        path = layout.wallet(name)
        keys[name] = (read_wallet(path) if path.exists() else create_wallet(path, None)).open()
    genesis_time = int((time.time() + _START_DELAY) * 1000)
    genesis = testnet_genesis(
        genesis_time,
        bootstrap=tuple(keys[name].public for name in NODES),
        funded=tuple(keys[name].address for name in FULL_NODES),
    )
    layout.genesis_path.write_text(genesis.to_json())
    ports = _ports(first_port)
    (root / "ports.json").write_text(json.dumps(ports, indent=2) + "\n")  # last: a folder without it is made anew


def _ports(first: int) -> dict[str, list[int]]:
    if first:
        return {name: [first + 2 * i, first + 2 * i + 1] for i, name in enumerate(FULL_NODES)}
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * len(FULL_NODES))]
    free = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return {name: free[2 * i : 2 * i + 2] for i, name in enumerate(FULL_NODES)}
