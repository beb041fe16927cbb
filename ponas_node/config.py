"""What a node needs to know to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from chain.checkpoints import Checkpoint
from ponas_node.miner.executor import STATE_SECONDS
from ponas_node.pool_config import PoolOptions
from ponas_node.split_keys import SplitKey
from pool.search import DEFAULT_STRATEGY


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Configuration of one node. Ports of 0 let the system choose."""

    data: Path
    p2p_host: str = "127.0.0.1"
    p2p_port: int = 0
    api_host: str = "127.0.0.1"
    api_port: int = 0
    peers: tuple[str, ...] = ()
    advertise: str | None = None
    device: str = "cpu"
    pool: bool = False
    pool_options: PoolOptions = field(default_factory=PoolOptions)
    prover_delay: int = 0  # slots to wait for somebody else's beacon before proving it here; negative: never prove
    solo: bool = False
    nice: int = 10  # niceness of training processes
    slots: int | None = 1  # trainings at a time; None: as many as fit
    pools: tuple[str, ...] = ()  # to mine for; a node that searches alone as well does so only while none answers
    state_seconds: float | None = STATE_SECONDS  # see `PoolMember`, for these pools
    strategy: str = DEFAULT_STRATEGY  # of a pool or a solo search; see `ponas_node.strategies`
    checkpoints: tuple[Checkpoint, ...] = ()  # blocks that the operator trusts
    audit_rate: int = 1  # results of each epoch that a node with a key audits, drawn at random
    audit_share: float = 0.0  # part of the time in which it audits others as well
    splits: tuple[SplitKey, ...] = ()  # sealed test splits whose keys a node with a key shows in their time
    label: str = "node"
