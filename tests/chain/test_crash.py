"""SIGKILL at every write boundary and at random moments: the database is whole and lost nothing it confirmed."""

import dataclasses
import multiprocessing
import random
import shutil
import time

import pytest

from chain.chain import Chain
from chain.failures import StoreError
from chain.store import Store
from tests.chain import crash_child
from tests.chain.rules import NETWORK, TestRules

ROUNDS = 3  # of work between whose writes a process is killed, from an empty database on
FRESH = 40  # kills after which a new database is begun


@dataclasses.dataclass
class Tally:
    """What became of the databases."""

    boundaries: int = 0
    moments: int = 0
    corrupted: int = 0
    lost: int = 0

    @property
    def kills(self):
        return self.boundaries + self.moments


@dataclasses.dataclass
class Told:
    """What a process said before it died: what was on disk, and where it stopped if it killed itself."""

    tips: list
    where: str | None = None


def run_child(path, last=None, rounds=None, delay=None):
    """Let a process write to `path` and die at a boundary, or kill it after `delay` seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chain.crash_child"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=crash_child.work, args=(str(path), theirs, last, rounds))
    process.start()
    theirs.close()
    told = Told([])
    if delay is not None:
        time.sleep(delay)
        process.kill()
    try:
        while True:
            message = ours.recv()
            if message[0] == "tip":
                told.tips.append(message[1:])
            else:
                told.where = message[1]
    except (EOFError, OSError):
        pass
    process.join()
    ours.close()
    assert process.exitcode == (0 if told.where is None and delay is None else -9)
    return told


def judge(path, told, tally):
    """Open what a killed process left, and count what is wrong with it."""
    try:
        with Store(path, NETWORK) as store:
            chain = Chain(store, TestRules())
            notes = store.namespace(crash_child.NAME)
            number = notes.get(crash_child.NUMBER)
            wrong = [] if notes.get(b"copy") == number else ["half a batch"]
            wrong += chain.verify()
            found = (chain.height, chain.tip.id, int.from_bytes(number or b"", "big"))
    except StoreError as error:
        wrong = [str(error)]
    if wrong:
        print(f"{path.name}, killed {told.where or 'by chance'}: {wrong}")
        tally.corrupted += 1
        shutil.rmtree(path)
        return
    if not told.tips:
        return
    height, tip, put = told.tips[-1]
    if told.where == "before":
        intact = found == told.tips[-1]
    else:
        # Every change of tip adds height, and at most one write was done that was not told.
        intact = (found[0] > height or found[:2] == (height, tip)) and found[2] - put in (0, 1)
    if not intact:
        print(f"{path.name}, killed {told.where or 'by chance'}: {told.tips[-1]} was told, {found} is there")
        tally.lost += 1


def every_boundary(folder, tally):
    """Kill a process at its first boundary, the next one at its second, and so on until one comes to its end."""
    last = 0
    while True:
        path = folder / f"boundary-{last}"
        told = run_child(path, last, ROUNDS)
        if told.where is None:
            break
        if path.exists():
            judge(path, told, tally)
            shutil.rmtree(path, ignore_errors=True)
        tally.boundaries += 1
        last += 1
    assert last == tally.boundaries and last > 2 * ROUNDS * 4


def random_moments(folder, kills, dice, tally):
    """Kill processes at boundaries and at moments that chance picks, one after another on the same database."""
    for number in range(kills):
        path = folder / f"random-{number // FRESH}"
        if dice.random() < 0.5:
            told = run_child(path, last=dice.randrange(150))
            tally.boundaries += 1
        else:
            told = run_child(path, delay=dice.uniform(0, 0.3))
            tally.moments += 1
        if path.exists():
            judge(path, told, tally)


def crash(folder, kills):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    tally = Tally()
    every_boundary(folder, tally)
    all_boundaries = tally.boundaries
    random_moments(folder, max(10, kills - tally.boundaries), random.Random(seed), tally)
    print(
        f"{tally.kills} kills ({tally.boundaries} at write boundaries, {all_boundaries} of them one at each; "
        f"{tally.moments} at random moments): {tally.corrupted} corrupted databases, {tally.lost} lost confirmed blocks"
    )
    assert tally.kills >= kills and not tally.corrupted and not tally.lost


def test_kills(tmp_path):
    crash(tmp_path, 60)


@pytest.mark.long
def test_many_kills(tmp_path):
    crash(tmp_path, 500)
