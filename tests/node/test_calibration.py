"""Whether the beacon's delay fits a machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ponas_node.calibration import calibrate, iterations_per_second
from ponas_node.cli.main import main
from ponas_node.testnet.genesis import consensus_parameters
from tests.network.cluster import small_genesis


class Machine:
    """Proves at a speed that the test sets, on a clock of its own; now and then something disturbs it."""

    def __init__(self, speed: float, disturbed: int) -> None:
        self.now, self.speed, self.disturbed = 0.0, speed, disturbed
        self.calls: list[int] = []

    def prove(self, challenge: bytes, bits: int, iterations: int) -> None:
        self.calls.append(iterations)
        slow = 3 if len(self.calls) == self.disturbed else 1
        self.now += iterations / self.speed * slow


def test_the_speed_is_that_of_tries_which_last() -> None:
    for speed in (100.0, 30_000.0, 320_000.0, 1e9):
        for disturbed in range(8):
            machine = Machine(speed, disturbed)
            found = iterations_per_second(machine.prove, 512, lambda machine=machine: machine.now)
            assert abs(found / speed - 1) < 1e-3
            assert len(machine.calls) < 30 and machine.now <= 5 * max(16, 4000 / speed)


def test_the_bounds_follow_from_the_phases() -> None:
    p = dataclasses.replace(
        consensus_parameters(0), slot_milliseconds=2000, commit_close=40, key_slots=3, reveal_open=46,
        beacon_grace=4, vdf_iterations=1_000_000,
    )  # fmt: skip
    found = calibrate(p, 200_000.0)
    assert (found.seconds, found.least_seconds, found.most_seconds) == (5.0, 4.0, 10.0)
    assert found.long_enough and found.in_time
    assert found.verdict.startswith("FITS: only a machine more than 1.2 times") and "2.0 times as slow" in found.verdict
    fast, slow = calibrate(p, 250_000.0), calibrate(p, 62_500.0)
    assert not fast.long_enough and fast.in_time and "from 1000001 to 2500000 iterations" in fast.verdict
    assert slow.long_enough and not slow.in_time and slow.verdict.startswith("TOO LONG")


def test_the_command_says_it_for_a_genesis(tmp_path: Path, capsys) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(small_genesis(vdf_iterations=1000).to_json())
    assert main(["selftest", "--device", "cpu", "--genesis", str(path), "--json"]) == 0
    beacon = json.loads(capsys.readouterr().out)["beacon"]
    assert beacon["discriminant_bits"] == 256 and beacon["iterations_per_second"] > 1000
    assert beacon["least_seconds"] == 0.8 and beacon["most_seconds"] == 2.0
    assert not beacon["long_enough"] and beacon["in_time"] and beacon["verdict"].startswith("TOO SHORT")
    assert main(["selftest", "--device", "cpu", "--genesis", str(tmp_path / "none.json")]) == 1
    assert "genesis file" in capsys.readouterr().err
