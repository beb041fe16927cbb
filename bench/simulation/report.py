"""Figures of a simulation that has run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.simulation.faults import Faults
from bench.simulation.world import World

RECOVERY_SLOTS = 48
"""Slots after the last fault within which all honest nodes must follow one chain that grows."""


def recover(world: World, faults: Faults) -> int:
    """Run until the honest nodes agree, and each has blocks that none had at the last fault; slots that took.

    Raises Violation where it takes more than RECOVERY_SLOTS.
    """
    seconds = world.setting.slot_seconds
    world.go_on(max(world.events.now, faults.calm * seconds))
    height = world.best.chain.height
    slots = 0
    while not (world.observer.agreed() and min(node.chain.height for node in world.honest) > height):
        if slots == RECOVERY_SLOTS:
            heights = [node.chain.height for node in world.honest]
            world.observer.fail(f"{slots} slots after the last fault the honest nodes are at heights {heights}")
        slots += 1
        world.go_on(world.events.now + seconds)
    return slots


def figures(world: World) -> dict[str, object]:
    """What happened, for people and for comparing runs."""
    observer, network, nodes = world.observer, world.network, world.setting.nodes
    return {
        "nodes": nodes,
        "miners": world.setting.miners,
        "epochs": world.setting.epochs,
        "seed": world.setting.seed,
        "events": world.events.count,
        "trace": world.events.trace,
        "height": world.best.chain.height,
        "slots": world.setting.consensus.slot_at(world.events.now),
        "agreed": observer.agreed(),
        "fork_rate": fork_rate(world),
        "propagation_ms": propagation(world),
        "reorganisations": observer.reorganisations,
        "deepest_reorganisation_slots": observer.deepest,
        "seats_won": observer.seats.total(),
        "seats_of_byzantine": round(byzantine_seats(world), 4),
        "largest_byzantine_part_of_active_seats": round(observer.most_byzantine, 4),
        "bans_of_honest": observer.bans["honest"],
        "bans_of_byzantine": observer.bans["byzantine"],
        "transactions": len(world.transactions.all),
        "messages_per_node": round(network.messages / nodes),
        "kilobytes_per_node": round(network.bytes / nodes / 1000),
    }


def byzantine_seats(world: World) -> float:
    """Part of the seats that nodes won which misbehave."""
    seats = world.observer.seats
    return sum(seats[node.index] for node in world.nodes if not node.behaviour.honest) / max(1, seats.total())


def fork_rate(world: World) -> float:
    """Part of the blocks of honest minters that are not on the chain in the end."""
    chain, blocks = world.best.chain, world.observer.blocks
    lost = sum(chain.id_at(block.header.height) != id for id, block in blocks.items())
    return round(lost / len(blocks), 5) if blocks else 0.0


def propagation(world: World) -> dict[str, float]:
    """Milliseconds from minting to an honest node, median and 95th percentile over blocks and nodes."""
    delays = sorted(world.observer.delays)
    return {"median": _milliseconds(delays, 0.5), "p95": _milliseconds(delays, 0.95)}


def _milliseconds(delays: Sequence[float], part: float) -> float:
    return round(1000 * delays[int(part * (len(delays) - 1))], 1) if delays else 0.0
