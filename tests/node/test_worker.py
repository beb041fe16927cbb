"""The child process for heavy work: answers, errors, kills, time limits."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from consensus import vdf
from consensus.facts import FALSE, TRUE, BeaconFact
from ponas_node.worker import Worker, WorkerDied, WorkerError

CHALLENGE = bytes(range(32))


@pytest.fixture
async def worker():
    child = Worker("test")
    yield child
    await child.stop()


def fact(output: bytes) -> bytes:
    return BeaconFact(CHALLENGE, 256, 1000, output).encode()


def worker_children() -> set[int]:
    """Child processes of this one that run jobs."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(status[1]) == os.getpid() and b"ponas_node.worker" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except (OSError, IndexError, ValueError):
            continue
    return found


async def started(worker: Worker) -> None:
    for _ in range(3000):
        if worker._child is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the child did not start")


async def test_answers_and_errors(worker: Worker) -> None:
    output = await worker.call("prove_beacon", CHALLENGE, 256, 1000, timeout=60)
    assert output == vdf.prove(CHALLENGE, 256, 1000)
    assert await worker.call("check_beacon", fact(output), timeout=60) == TRUE
    for wrong in (bytes(200), b"\xff" * 200, output[:-1] + bytes([output[-1] ^ 1])):
        assert await worker.call("check_beacon", fact(wrong), timeout=60) == FALSE
    with pytest.raises(WorkerError) as caught:
        await worker.call("no_such_job", timeout=60)
    assert caught.value.kind == "KeyError"
    with pytest.raises(WorkerError):
        await worker.call("check_beacon", b"rubbish", timeout=60)
    assert await worker.call("check_beacon", fact(output), timeout=60) == TRUE


async def test_a_job_past_its_time_is_killed_and_the_next_one_runs(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="took over"):
        await worker.call("prove_beacon", CHALLENGE, 1024, 10**9, timeout=3)
    assert len(await worker.call("prove_beacon", CHALLENGE, 256, 1000, timeout=60)) == 200


async def test_a_child_that_dies_is_noticed_and_replaced(worker: Worker) -> None:
    job = asyncio.create_task(worker.call("prove_beacon", CHALLENGE, 1024, 10**9, timeout=60))
    await started(worker)
    os.kill(worker._child.process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="ended"):
        await job
    assert len(await worker.call("prove_beacon", CHALLENGE, 256, 1000, timeout=60)) == 200


async def test_cancelling_the_caller_kills_the_child(worker: Worker) -> None:
    job = asyncio.create_task(worker.call("prove_beacon", CHALLENGE, 1024, 10**9, timeout=60))
    await started(worker)
    pid = worker._child.process.pid
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_calls_wait_for_one_another(worker: Worker) -> None:
    jobs = [worker.call("prove_beacon", bytes([n]) * 32, 256, 500, timeout=60) for n in range(4)]
    assert [len(output) for output in await asyncio.gather(*jobs)] == [200] * 4


async def test_stopping_ends_the_running_call_and_those_that_wait() -> None:
    child = Worker("test")
    jobs = [asyncio.create_task(child.call("prove_beacon", CHALLENGE, 1024, 10**9, timeout=60)) for _ in range(3)]
    await started(child)
    await child.stop()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(outcome, WorkerDied) for outcome in outcomes)
    assert child._child is None


async def test_cancelling_at_any_moment_leaves_no_child() -> None:
    before = worker_children()
    for delay in (0.0, 0.001, 0.005, 0.02, 0.1):
        child = Worker("test")
        job = asyncio.create_task(child.call("prove_beacon", CHALLENGE, 1024, 10**9, timeout=60))
        await asyncio.sleep(delay)
        job.cancel()
        await child.stop()
        await asyncio.wait([job], timeout=10)
        assert job.cancelled() and child._child is None
        assert worker_children() == before, f"a child outlived a call cancelled after {delay} s"
