"""One test for each attack that the simulator can show. Each says up to which share the attack does no harm.

Shares are of miners of equal compute, who own as much of the first seats. `python -m bench consensus --json` measures
all shares; docs/simulation.md has the figures.
"""

import dataclasses
import itertools

import pytest

from bench.simulation.attacks import attack, average, harm
from bench.simulation.byzantine import HOLD, Byzantine
from bench.simulation.faults import Faults, Outage, Partition
from bench.simulation.report import recover
from bench.simulation.setting import BALANCE, Setting
from bench.simulation.world import World
from chain import accounts
from chain.types import Kind
from consensus import records

SEEDS = (1, 2)
SMALL = {"nodes": 14, "miners": 10, "epochs": 3, "seats": 12}
LARGE = {"nodes": 24, "miners": 20, "epochs": 4, "seats": 24}  # as in the table of docs/simulation.md


def attacked(kind, share, seeds=SEEDS, **options):
    """Mean harm over some networks. Raises Violation where one breaks an invariant."""
    print(f"{kind} at {share}, seeds {seeds}")
    return average([harm(attack(kind, share, seed, **{**SMALL, **options})) for seed in seeds])


def quiet(nodes=16, miners=12, epochs=3, seed=11, **options):
    return Setting(nodes, miners, epochs, seed, **options)


@pytest.mark.long
def test_withheld_branch():
    """A coalition builds in secret and releases after 6 slots. Harmless up to a fifth of the seats: less than a
    twentieth of the honest blocks is lost, and luck alone lets a competition fail (2 of 120, see docs/simulation.md).
    With more than half of them, most are."""
    few = attacked("withhold", 0.2, seeds=range(10), **LARGE)
    assert few["fork_rate"] <= 0.05
    assert few["deepest"] <= HOLD + 2
    assert round(30 * few["void"]) <= 2
    many = attacked("withhold", 0.6)
    assert many["fork_rate"] > 0.2


def test_equivocation():
    """Two blocks for each slot, each shown to half of the peers. Safe at any share; it costs honest nodes
    reorganisations of a few slots, and the owners all seats with which they do it."""
    found = attacked("equivocate", 0.4)
    assert found["caught"] == found["offences"] > 5
    assert 0 < found["deepest"] <= 4
    assert found["fork_rate"] <= 0.05
    assert found["growth"] >= 0.95
    assert attacked("equivocate", 0.75)["void"] == 0


@pytest.mark.long
def test_censoring_seats():
    """Seats that take in nothing of others. Harmless up to a third: each phase has blocks of others, and one is enough;
    luck alone lets a competition fail (2 of 120, see docs/simulation.md). With three quarters, many do."""
    found = attacked("censor", 0.3, seeds=range(10), **LARGE)
    assert round(30 * found["void"]) <= 2
    assert found["seats"] <= found["compute"] + 0.1
    assert attacked("censor", 0.75, seeds=(0, 1, 2), epochs=5)["void"] > 0


def test_silent_seats():
    """Seats that mint nothing. Harmless up to a fifth: their slots stay empty, and no more than these. With more, luck
    can give them all slots of a phase, and the competition fails."""
    found = attacked("silent", 0.2)
    assert found["growth"] >= 0.65
    assert found["void"] == 0


def test_silence_of_nearly_all_seats_ends_with_a_rescue():
    """Nine tenths are silent: the chain crawls, the bootstrap seats come to its rescue, and it never stops for good."""
    world = attack("silent", 0.9, seed=4, epochs=8)
    chain = world.best.chain
    slots = [chain.block_at(height).header.slot for height in range(chain.height + 1)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(slots)]
    assert world.best.chain.tip.slot > world.setting.consensus.start(6)
    assert max(gaps) <= 3 * world.setting.consensus.rescue_slots


def test_flood_of_invalid_blocks():
    """Blocks with a false root, a false coinbase, of another's slot. Harmless at any share below that of the silent:
    peers are banned, no honest node is, and the rest goes on."""
    found = attacked("forge", 0.3)
    assert found["bans_of_byzantine"] > 0
    assert found["bans_of_honest"] == 0
    assert found["fork_rate"] == 0
    assert found["seats"] <= found["compute"]


def test_withheld_reveals():
    """Results that are sealed and not opened take no seats, at any share; the others take them all."""
    found = attacked("keep", 0.6)
    assert found["seats"] == 0
    assert found["void"] == 0


def test_copied_results():
    """Who trains nothing, and copies what others sealed as soon as they seal it, takes no seat, at any share: of one
    architecture the earliest seal stands, and only the owner opens it."""
    found = attacked("copy", 0.5, seeds=range(6))
    assert found["seats"] <= 0.02
    assert found["void"] == 0
    assert found["bans_of_honest"] == 0


def test_grinding_of_commits():
    """Sealing the same trainings four times, among results that nobody trained, gives no seat more, at any share."""
    found = attacked("grind", 0.3, seeds=(1, 2, 3, 4))
    assert found["seats"] <= found["compute"] + 0.08
    assert found["void"] == 0


def test_forged_results():
    """Models made up with the test set at hand. Up to a half of the miners none of them mints a block: a seat is active
    once nobody has found anything to challenge for a whole window. With nearly all seats, challenges are kept out."""
    few = attacked("fake", 0.5, epochs=5)
    assert few["caught"] == few["offences"] > 40
    assert few["held"] == few["spendable"] == 0
    assert few["void"] == 0
    many = attacked("fake", 0.9, epochs=5)
    assert many["caught"] < many["offences"]
    assert many["spendable"] > 0


def test_more_forged_results_than_can_be_challenged():
    """Each forger opens sixteen, all of which stand before honest results. While there is one to revoke the window
    begins anew: seats come later, and to honest results only."""
    found = attacked("fake-many", 0.3, **LARGE)
    assert found["caught"] == found["offences"] > 100
    assert found["held"] == found["spendable"] == 0
    assert found["void"] == 0
    assert found["growth"] >= 0.97
    assert attacked("fake-many", 0.9, epochs=5)["spendable"] > 0


@pytest.mark.long
def test_forged_first_competition():
    """Forgeries win all of the first competition, and of every other. Harmless up to a half, of the bootstrap seats as
    well, which mint until the window is full. With nearly all of these, no challenge gets in."""
    found = attacked("fake-first", 0.5, seeds=range(6), **LARGE)
    assert found["caught"] == found["offences"] > 100
    assert found["held"] == found["spendable"] == 0
    assert attacked("fake-first", 0.9, epochs=5)["held"] > 0.8


def test_false_challenges():
    """Challenges of honest results, one a slot: each costs its deposit and its fee, and nobody loses a seat."""
    world = attack("accuse", 0.3, 1, **SMALL)
    chain = world.best.chain
    paid = {}
    for height in range(1, chain.height + 1):
        for transaction in chain.block_at(height).transactions[1:]:
            if transaction.kind == Kind.CHALLENGE:
                spent = transaction.fee + world.setting.consensus.challenge_deposit
                paid[transaction.address] = paid.get(transaction.address, 0) + spent
    assert len(paid) == 3
    for address, spent in paid.items():
        assert accounts.account(chain.state, address).balance == BALANCE - spent
    found = harm(world)
    assert found.void == 0
    assert found.seats <= found.compute + 0.1


def test_spam():
    """Payments to oneself, eight in each slot by each: blocks have room for all, and every one pays its fee."""
    found = attacked("spam", 0.3)
    assert found["growth"] >= 0.97
    assert found["void"] == 0


def test_partition_into_halves_that_heals():
    """Half of the nodes and seats on each side for a third of the rollback limit, over a boundary; then one chain.
    Harmless while it is shorter than the limit, at any shares: the longer side wins."""
    setting = quiet()
    halves = tuple(index % 2 for index in range(setting.nodes))
    faults = Faults((Partition(5, 5 + setting.ledger.max_rollback / 3, halves),))
    world = World(setting)
    world.run(0.0, faults.plan)
    assert recover(world, faults) <= 15
    assert world.observer.deepest >= 10, "the halves did not mint"


def test_eclipse_of_a_newcomer():
    """All peers of a newcomer belong to a coalition with a quarter of the seats, which shows it a branch of its own.
    One honest peer within the rollback limit is enough."""
    world = eclipse(5, 35)
    assert world.nodes[-1].chain.decided < 0


def test_eclipse_of_a_late_joiner(tmp_path):
    """The same for a node that joins after more than `max_rollback` slots, and meets an honest one after 40 more: the
    branch forks 100 slots back, and is left for the denser one. All the same where every node executes by itself."""
    world = eclipse(60, 100)
    assert world.nodes[-1].chain.decided >= 0, "density has not decided"
    own = eclipse(60, 100, tmp_path)
    own.close()
    assert own.events.trace == world.events.trace


def eclipse(start, meets, folder=None):
    """A newcomer sees a coalition only from `start` on, and from slot `meets` on an honest node too: its network."""
    setting = quiet(epochs=6)
    world, coalition = World(setting, folder), (0, 4, 8)
    joiner, honest = world.nodes[-1], world.nodes[1]
    for index in coalition:
        world.nodes[index].behaviour = Byzantine(world.nodes[index])
    joiner.configured = [world.nodes[index] for index in coalition]
    cut = [int(index in (*coalition, joiner.index)) for index in range(setting.nodes)]
    world.network.partition(cut, [])
    world.run(0.0, Faults(outages=(Outage(joiner.index, 0, start),)).plan)
    world.go_on(meets * setting.slot_seconds)
    shown = joiner.chain.tip
    assert shown.height > 5
    assert honest.chain.id_at(shown.height) != shown.id, "the joiner was not eclipsed"
    cut[joiner.index] = 0
    world.network.partition(cut, world.nodes)
    joiner.configured.append(honest)
    world.network.dial(joiner, honest)
    world.go_on((meets + 5) * setting.slot_seconds)
    assert joiner.chain.height >= honest.chain.height - 2
    assert not joiner.chain.store.has(shown.id)
    return world


@pytest.mark.parametrize(
    ("slots", "seed"), [(0.9, 11), (-0.9, 11), (4.0, 3), (4.0, 8), (4.0, 9), (4.0, 11), (4.0, 37), (-4.0, 11)]
)
def test_clock_skew(slots, seed):
    """A quarter of the miners with a clock that is wrong, fast or slow. Harmless within the tolerance of a slot. Four
    slots: the chain of the others goes on, but blocks that are minted early lack what belongs into them, and
    competitions can fail."""
    setting = quiet(seed=seed)
    wrong = range(0, setting.miners, 4)
    setting = dataclasses.replace(setting, offsets=dict.fromkeys(wrong, slots * setting.slot_seconds))
    world = World(setting)
    world.run()
    right = [node for node in world.nodes if node.index not in wrong]
    heights = {node.chain.height for node in right}
    assert max(heights) - min(heights) <= 4
    assert len({node.chain.id_at(min(heights) - 4) for node in right}) == 1
    assert min(heights) >= 0.55 * world.setting.consensus.start(setting.epochs)
    if abs(slots) < 1:
        epoch = records.epoch(right[0].chain.state, 1)
        assert epoch is not None and epoch.winners
