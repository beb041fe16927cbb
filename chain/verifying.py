"""Signatures in other processes, while this one does something else.

A worker reads jobs from a pipe: signatures of 128 bytes each, public key, signature, message. Its answer is one byte a
job, in their order. The process that hands them out helps with what no worker has, in the end with what one has.
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from chain.errors import BadSignature
from chain.keys import verify_each

log = logging.getLogger(__name__)

Signed = tuple[bytes, bytes, bytes]
"""Public key (32 bytes), signature (64), message (32)."""

JOB = 128  # signatures a job holds: about 10 ms
_RECORD = 128
_GOOD, _BAD = b"\1", b"\0"


class Job:
    """Some signatures of one item. `done` once they were verified; `bad` where one of them does not verify."""

    __slots__ = ("bad", "done", "signed")

    def __init__(self, signed: Sequence[Signed]) -> None:
        self.signed = signed
        self.done = False
        self.bad = False

    def run(self) -> None:
        """Verify here."""
        try:
            verify_each(self.signed)
        except BadSignature:
            self.bad = True
        self.done = True


class Verifier:
    """Verifies jobs in order with `workers` processes beside this one; with none, in this one alone.

    `ahead`: signatures that a worker is given before it has answered, so that it has work while nobody looks.
    """

    def __init__(self, workers: int = 0, ahead: int = 16_384) -> None:
        self._waiting: deque[Job] = deque()
        self._workers = [_Worker() for _ in range(workers)]
        self._ahead = ahead

    def submit(self, signed: Sequence[Signed]) -> list[Job]:
        """Jobs that verify `signed`; they are done when `complete` says so."""
        jobs = [Job(signed[start : start + JOB]) for start in range(0, len(signed), JOB)]
        self._waiting.extend(jobs)
        self._pump()
        return jobs

    def complete(self, jobs: Sequence[Job]) -> None:
        """Return when `jobs` are done, working on whatever waits meanwhile, then on what a worker will come to last.

        Raises BadSignature where one of their signatures does not verify. What a worker that is gone was given is
        verified by the others.
        """
        for job in jobs:
            while not job.done:
                self._pump()
                if self._waiting:
                    self._waiting.popleft().run()
                elif not job.done:
                    next(job for job in reversed(jobs) if not job.done).run()
        if any(job.bad for job in jobs):
            raise BadSignature("signature does not verify")

    def _pump(self) -> None:
        """Take answers and hand out jobs, without waiting."""
        for worker in tuple(self._workers):
            try:
                worker.take()
                while self._waiting and worker.load < self._ahead:
                    worker.give(self._waiting.popleft())
            except (OSError, EOFError):
                log.warning("a process that verified signatures is gone")
                self._workers.remove(worker)
                self._waiting.extendleft(reversed(worker.jobs))
                worker.close()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process and the jobs that it has."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.load = 0
        self.jobs: deque[Job] = deque()
        self._process: Any = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.jobs.append(job)
        self.load += len(job.signed)
        self.pipe.send_bytes(b"".join([part for item in job.signed for part in item]))

    def take(self) -> None:
        while self.jobs and self.pipe.poll():
            answer = self.pipe.recv_bytes(1)
            job = self.jobs.popleft()
            self.load -= len(job.signed)
            job.bad, job.done = answer != _GOOD, True

    def close(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """A worker's life. A thread empties the pipe, so that whoever fills it never waits."""
    jobs: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, jobs), daemon=True).start()
    while (job := jobs.get()) is not None:
        records = [job[start : start + _RECORD] for start in range(0, len(job), _RECORD)]
        try:
            verify_each([(record[:32], record[32:96], record[96:]) for record in records])
        except BadSignature:
            pipe.send_bytes(_BAD)
        else:
            pipe.send_bytes(_GOOD)


def _receive(pipe: Connection, jobs: queue.SimpleQueue[bytes | None]) -> None:
    try:
        while True:
            jobs.put(pipe.recv_bytes())
    except (EOFError, OSError):
        jobs.put(None)
