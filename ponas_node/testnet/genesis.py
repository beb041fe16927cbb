"""The testnet's genesis: an epoch of two minutes on two cores, and handwritten digits as the built-in task."""

from __future__ import annotations

from chain.artifact import artifact_id
from chain.parameters import LedgerParameters
from consensus.genesis import Allocation, BuiltInTask, Genesis
from consensus.parameters import ConsensusParameters
from consensus.types import TaskSpec
from ponas_node.units import PONAS as COIN

LEDGER = LedgerParameters(
    coinbase_maturity=45,
    max_rollback=120,
    max_block_bytes=1 << 20,
    fee_per_byte=10,
    subsidy=5 * COIN,
    halving_blocks=1_000_000,
)


def consensus_parameters(genesis_time: int) -> ConsensusParameters:
    """Slots of 2 s, 60 to an epoch: 80 s to search and seal, 12 s for the beacon, 18 s to reveal, 10 s to settle.

    Seats are active once they could be challenged in 45 blocks, 90 s, and nobody did; a bounty matures as late.
    """
    return ConsensusParameters(
        genesis_time=genesis_time, slot_milliseconds=2000, epoch_slots=60, commit_close=40, reveal_open=46,
        reveal_close=55, beacon_grace=6, seats=8, seat_epochs=3, rescue_slots=30, commits_per_epoch=256,
        commit_leaves=512, commit_deposit=COIN, reveals_per_block=32, payout_entries=32, vdf_discriminant_bits=512,
        vdf_iterations=1_400_000, max_model_bytes=2 << 20, max_dataset_bytes=16 << 20, max_tasks=64,
        reveal_bond=10 * COIN, challenge_blocks=45, challenge_deposit=5 * COIN, challenges_per_block=2,
        max_segment_macs=20_000_000_000, max_state_bytes=16 << 20, key_slots=3, split_deposit=20 * COIN,
    )  # fmt: skip


def digits_task() -> TaskSpec:
    """Handwritten digits (8x8), the data set that ships with scikit-learn."""
    from consensus.datasets import digits, encode_dataset
    from consensus.exact.recipe import TESTNET_RECIPE

    dataset = digits()
    data = encode_dataset(dataset)
    shape = dataset.shape
    return TaskSpec(
        name="digits", dataset=artifact_id(data), dataset_bytes=len(data), height=shape.height, width=shape.width,
        channels=shape.channels, classes=shape.classes, test_samples=len(dataset.test.labels), space="stages-v1",
        max_parameters=100_000, max_macs=600_000, steps=TESTNET_RECIPE.steps, batch=TESTNET_RECIPE.batch,
        segments=TESTNET_RECIPE.segments, learning_rate=TESTNET_RECIPE.learning_rate, eval_samples=256,
        baseline=8000, bounty_per_epoch=20 * COIN,
    )  # fmt: skip


def testnet_genesis(
    genesis_time: int, bootstrap: tuple[bytes, ...], funded: tuple[bytes, ...], balance: int = 10_000 * COIN
) -> Genesis:
    """The genesis of a testnet that starts at Unix time `genesis_time` in milliseconds.

    `bootstrap` are the public keys of the first seats, `funded` the addresses that start with `balance`.
    """
    return Genesis(
        name="ponas-testnet",
        ledger=LEDGER,
        consensus=consensus_parameters(genesis_time),
        allocations=tuple(Allocation(address, balance) for address in funded),
        bootstrap=bootstrap,
        tasks=(BuiltInTask(digits_task(), epochs=100),),
    )
