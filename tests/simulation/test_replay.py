"""One seed is one history: twice, in another process, and where every node executes everything by itself."""

import dataclasses
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

from bench.simulation.faults import random_case
from bench.simulation.report import figures, recover
from bench.simulation.world import World

SEED = 6  # outages, misbehaviour, and reorganisations of some slots


def simulate(seed: int, folder: Path | None = None) -> dict[str, object]:
    setting, faults = random_case(seed, nodes=14, miners=9, epochs=3)
    world = World(setting, folder)
    try:
        world.run(0.0, faults.plan)
        recover(world, faults)
        world.go_on(setting.end)
        return figures(world)
    finally:
        world.close()


def test_one_seed_gives_one_history():
    first = simulate(SEED)
    assert simulate(SEED) == first
    assert simulate(SEED + 1)["trace"] != first["trace"]


def test_another_process_with_other_hashes_gives_the_same_history():
    code = "import json; from tests.simulation.test_replay import SEED, simulate; print(json.dumps(simulate(SEED)))"
    found = []
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[2]
        output = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True, text=True
        )
        found.append(json.loads(output.stdout))
    assert found[0] == found[1] == simulate(SEED)


def test_sharing_executions_changes_nothing(tmp_path):
    """Three networks with reorganisations: the others show little."""
    histories = ((seed, simulate(seed)) for seed in range(SEED, SEED + 20))
    telling = list(islice((found for found in histories if found[1]["reorganisations"]), 3))
    assert len(telling) == 3
    for seed, shared in telling:
        assert simulate(seed, tmp_path / str(seed)) == shared


def test_trace_depends_on_what_nodes_do():
    setting, _ = random_case(SEED, nodes=6, miners=4, epochs=1)
    setting = dataclasses.replace(setting, byzantine={}, offsets={})
    honest, silent = World(setting), World(dataclasses.replace(setting, byzantine={0: "silent"}))
    honest.run()
    silent.run()
    assert honest.events.trace != silent.events.trace
