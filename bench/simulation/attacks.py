"""What misbehaviour of some kind does to a network, by the share of seats and compute that misbehaves."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from bench.simulation.justice import is_genuine
from bench.simulation.report import byzantine_seats, fork_rate
from bench.simulation.setting import Setting, spread
from bench.simulation.world import World
from chain.chain import Chain
from chain.state import Overlay
from chain.types import Kind
from consensus import records
from consensus.challenge import challenge_closes
from consensus.slashing import is_lost
from consensus.types import ChallengeBody


@dataclass(frozen=True, slots=True)
class Harm:
    """What came of an attack. Shares are parts of one.

    `growth`: blocks of the chain per slot. `fork_rate`: honest blocks that were lost. `deepest`: slots that an honest
    node went back. `seats`: seats that the attackers won, where `compute` was their part of the trainings. `void`:
    epochs that gave no seats. `offences`: seats that were to be lost for what their owners did, early enough before the
    end; `caught`: those that were. `held`: what forged results had of the time of all results with seats. `spendable`:
    what they had of the blocks of such results whose rewards have matured.
    """

    growth: float
    fork_rate: float
    deepest: int
    seats: float
    compute: float
    void: float
    offences: int
    caught: int
    held: float
    spendable: float
    bans_of_honest: int
    bans_of_byzantine: int


def attack(
    kind: str, share: float, seed: int, nodes: int = 24, miners: int = 20, epochs: int = 6, seats: int = 24
) -> World:
    """A network of equal miners that has run, `share` of them misbehaving; they own as much of the first seats.

    Each miner trains four times and may open all of it, so that there are more results than seats. A block has room for
    as many challenges for each seat as on the testnet.
    """
    byzantine = spread([kind] * round(share * miners), miners)
    setting = Setting(nodes, miners, epochs, seed, byzantine=byzantine, reveals=4).with_parameters(
        seats=seats, challenges_per_block=max(2, seats // 4)
    )
    world = World(setting)
    world.run()
    return world


def harm(world: World) -> Harm:
    """What the attack in `world` did."""
    observer, setting, chain = world.observer, world.setting, world.best.chain
    miners = [node.miner for node in world.nodes if node.miner is not None]
    compute = sum(miner.compute for miner in miners if not miner.node.behaviour.honest)
    epochs = [records.epoch(chain.state, number) for number in range(setting.epochs - 1)]
    due = _offending_seats(world)
    held, spendable = _spoils(world)
    return Harm(
        growth=chain.height / setting.consensus.slot_at(world.events.now),
        fork_rate=fork_rate(world),
        deepest=observer.deepest,
        seats=byzantine_seats(world),
        compute=compute / sum(miner.compute for miner in miners),
        void=sum(epoch is None or not epoch.winners for epoch in epochs) / max(1, len(epochs)),
        offences=len(due),
        caught=sum(is_lost(chain.state, seat) for seat in due),
        held=held,
        spendable=spendable,
        bans_of_honest=observer.bans["honest"],
        bans_of_byzantine=observer.bans["byzantine"],
    )


def _offending_seats(world: World) -> list[bytes]:
    """Seats of the best chain whose offences were so long ago that they cannot be punished any more."""
    chain, parameters = world.best.chain, world.setting.consensus
    due = []
    for seat, slot in world.observer.justice.offences.items():
        result = records.result(chain.state, seat)
        if result is not None and not is_genuine(result, chain.state):
            end = challenge_closes(chain.state, parameters, result)
            over = end is not None and end <= chain.height + 1
        else:
            over = slot <= chain.tip.slot - parameters.challenge_blocks
        if over and records.seat_holder(chain.state, seat):
            due.append(seat)
    return due


def _spoils(world: World) -> tuple[float, float]:
    """What forged results had on the best chain, of the time of seats and of the mature blocks: parts of what all
    results had."""
    chain = world.best.chain
    state, until = Overlay(chain.state), chain.tip.slot + 1
    lost = _lost_at(chain)
    time, blocks = [0, 0], [0, 0]  # of genuine results, and of forged ones
    for height in range(chain.height, 0, -1):
        header = chain.canonical(height)
        for seat in records.active_seats(state):
            result = records.result(state, seat)
            if result is not None:
                time[not is_genuine(result, state)] += until - header.slot
        minted = records.result(state, header.seat)
        ripe = height + world.setting.ledger.coinbase_maturity
        if minted is not None and ripe <= min(chain.height, lost.get(header.seat, ripe)):
            blocks[not is_genuine(minted, state)] += 1
        state.write(chain.store.undo(height) or {})
        until = header.slot
    return time[1] / max(1, sum(time)), blocks[1] / max(1, sum(blocks))


def _lost_at(chain: Chain) -> dict[bytes, int]:
    """Height at which each result was revoked on the chain: that of the last challenge of it, none can follow."""
    found = {}
    for height in range(1, chain.height + 1):
        block = chain.block_at(height)
        for transaction in block.transactions if block is not None else ():
            if transaction.kind == Kind.CHALLENGE:
                found[ChallengeBody.decode(transaction.body).result] = height
    return {result: height for result, height in found.items() if is_lost(chain.state, result)}


def average(found: list[Harm]) -> dict[str, float]:
    """Mean of each number."""
    return {name: round(fmean(getattr(one, name) for one in found), 4) for name in Harm.__slots__}
