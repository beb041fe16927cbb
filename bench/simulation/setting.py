"""What a simulated network is made of, and its genesis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.simulation.oracle import task_spec
from chain.hashing import digest
from chain.keys import PrivateKey
from chain.parameters import LedgerParameters
from consensus.genesis import Allocation, BuiltInTask, Genesis
from consensus.parameters import ConsensusParameters
from ponas_node.p2p.settings import NetworkSettings

LEDGER = LedgerParameters(
    coinbase_maturity=18, max_rollback=48, max_block_bytes=1 << 20, fee_per_byte=1, subsidy=5_000_000,
    halving_blocks=1_000_000,
)  # fmt: skip
CONSENSUS = ConsensusParameters(
    genesis_time=0, slot_milliseconds=2000, epoch_slots=24, commit_close=10, reveal_open=13, reveal_close=20,
    beacon_grace=4, seats=8, seat_epochs=3, rescue_slots=24, commits_per_epoch=1024, commit_leaves=16,
    commit_deposit=1000, reveals_per_block=64, payout_entries=4, vdf_discriminant_bits=256, vdf_iterations=2000,
    max_model_bytes=1 << 20, max_dataset_bytes=1 << 20, max_tasks=4, reveal_bond=1000, challenge_blocks=18,
    challenge_deposit=1000, challenges_per_block=2, max_segment_macs=10**12, max_state_bytes=1 << 28, key_slots=2,
    split_deposit=5000,
)  # fmt: skip
NETWORK = NetworkSettings()  # of every node: what a node has unless told otherwise
BALANCE = 10**12
BOOTSTRAP = 12
PROVERS = 3


@dataclass(frozen=True)
class Setting:
    """A simulation, but for its faults. The first `miners` of the `nodes` mine; the first few of them prove beacons.

    `compute`: trainings of each miner in an epoch. `byzantine`: kind of misbehaviour by number of the node, see
    `bench.simulation.behaviours`. Times in seconds, offsets of clocks too.
    """

    nodes: int
    miners: int
    epochs: int
    seed: int
    compute: tuple[int, ...] = (4,)  # in turn
    byzantine: dict[int, str] = field(default_factory=dict)
    reveals: int = 2  # results that a miner opens
    strategy: str | None = None  # what a miner searches with, in an archive of its own; None: at random
    outbound: int = 4  # peers that a node calls
    loss: float = 0.0  # part of the messages that is sent again after a time-out
    offsets: dict[int, float] = field(default_factory=dict)
    ledger: LedgerParameters = LEDGER
    consensus: ConsensusParameters = CONSENSUS

    @property
    def slot_seconds(self) -> float:
        """Length of a slot."""
        return self.consensus.slot_milliseconds / 1000

    @property
    def end(self) -> float:
        """When the last epoch is over."""
        return self.consensus.time_of(self.consensus.start(self.epochs)) + 2 * self.slot_seconds

    def with_parameters(self, **changes: int) -> Setting:
        """The same with other consensus parameters."""
        return dataclasses.replace(self, consensus=dataclasses.replace(self.consensus, **changes))


def spread(kinds: Sequence[str], miners: int) -> dict[int, str]:
    """Misbehaviour of these kinds, one miner each, spread over the miners and so over the bootstrap seats too."""
    return {place * miners // len(kinds): kind for place, kind in enumerate(kinds)}


def node_key(index: int) -> PrivateKey:
    """Key of a node, of which its miner's is the same."""
    return PrivateKey(digest("simulated-key", index.to_bytes(4, "big")))


def watch_key(index: int) -> PrivateKey:
    """Key with which a miner's node accuses others."""
    return PrivateKey(digest("simulated-watch-key", index.to_bytes(4, "big")))


def make_genesis(setting: Setting, keys: list[PrivateKey]) -> Genesis:
    """Miners have balances; the first few own the bootstrap seats, and misbehave in proportion."""
    miners = keys[: setting.miners]
    watches = [watch_key(index) for index in range(setting.miners)]
    genesis = Genesis(
        name=f"simulated {setting.seed}",  # so that seeds differ in whose slots the first ones are, too
        ledger=setting.ledger,
        consensus=setting.consensus,
        allocations=tuple(Allocation(key.address, BALANCE) for key in (*miners, *watches)),
        bootstrap=tuple(key.public for key in miners[:BOOTSTRAP]),
        tasks=(BuiltInTask(task_spec(), 0),),
    )
    genesis.check()
    return genesis
