"""Heavy work in a child process that can be killed: limits on time and memory; one call at a time, or several that take
turns in the child.

Frames on the pipes are a 4-byte big-endian length and a MessagePack array. To the child: [call, function, arguments],
or [call] to drop that call. From it: ["progress", call, value] any number of times, then ["result", call, value], or
["error", call, kind, message].
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import struct
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO

import msgpack


class WorkerError(Exception):
    """The job raised; the message is its own."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WorkerDied(Exception):
    """The child ended, was killed, or ran past its time."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller waits for."""

    answer: asyncio.Future[Any]
    on_progress: Callable[[Any], None] | None


class Child:
    """A running child process, and the calls that it works on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.calls: dict[int, Call] = {}
        self.reader = asyncio.create_task(self._read())

    @property
    def alive(self) -> bool:
        """Whether it can take calls."""
        return self.process.returncode is None and not self.reader.done()

    def send(self, *values: Any) -> None:
        """Write a frame. Raises ConnectionError."""
        if self.process.stdin is None:
            raise ConnectionError("worker has no pipes")
        payload = msgpack.packb(list(values), use_bin_type=True)
        self.process.stdin.write(struct.pack(">I", len(payload)) + payload)

    async def drain(self) -> None:
        """Wait until the pipe has room. Raises ConnectionError."""
        if self.process.stdin is not None:
            await self.process.stdin.drain()

    async def end(self) -> None:
        """Kill it and wait until nothing is left of it."""
        self.signal()
        await asyncio.wait([self.reader])
        # Both pipes must be seen to close: only then asyncio lets go of the child before its loop may be gone.
        await self.process.communicate()
        if self.process.stdin is not None:
            self.process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self.process.stdin.wait_closed()

    def signal(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _read(self) -> None:
        """Hand what it answers to the callers, until its pipe ends."""
        try:
            while self.process.stdout is not None:
                (size,) = struct.unpack(">I", await self.process.stdout.readexactly(4))
                kind, number, *values = msgpack.unpackb(await self.process.stdout.readexactly(size), raw=False)
                call = self.calls.get(number)
                if call is not None and not call.answer.done():
                    _take(call, kind, values)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for call in self.calls.values():
                if not call.answer.done():
                    call.answer.set_exception(ConnectionError("the process ended"))


def _take(call: Call, kind: str, values: list[Any]) -> None:
    if kind == "result":
        call.answer.set_result(values[0])
    elif kind == "error":
        call.answer.set_exception(WorkerError(values[0], values[1]))
    elif call.on_progress is not None:
        try:
            call.on_progress(values[0])
        except Exception as error:  # the caller's own
            call.answer.set_exception(error)


class Worker:
    """A child process for the jobs of `ponas_node.jobs`. It starts at the first call and again after it died.

    It has up to `together` calls at a time; others wait.
    """

    def __init__(self, name: str, nice: int = 0, memory_mb: int = 8192, together: int = 1) -> None:
        self.name = name
        self.together = together
        self._nice = nice
        self._memory_mb = memory_mb
        self._child: Child | None = None
        self._lock = asyncio.Lock()  # held while a child starts or ends
        self._room = asyncio.Semaphore(together)
        self._numbers = itertools.count()
        self._stopped = False

    async def call(
        self, function: str, *arguments: Any, timeout: float, on_progress: Callable[[Any], None] | None = None
    ) -> Any:
        """Run a job. Raises WorkerError where it raised, WorkerDied where the child ended, the job took over `timeout`
        seconds, or after `stop`.

        Cancelling the caller kills the child, unless it has other calls: then it is told to drop this one. A child that
        is killed takes all its calls with it.
        """
        async with self._room:
            child, number = await self._ready(function), next(self._numbers)
            call = Call(asyncio.get_running_loop().create_future(), on_progress)
            child.calls[number] = call
            try:
                async with asyncio.timeout(timeout):
                    child.send(number, function, list(arguments))
                    await child.drain()
                    return await call.answer
            except TimeoutError as error:
                await self._end(child)
                raise WorkerDied(f"{self.name}: {function} took over {timeout:.0f} s and was stopped") from error
            except ConnectionError as error:
                await self._end(child)
                raise WorkerDied(f"{self.name}: the process ended during {function}") from error
            except asyncio.CancelledError:
                if len(child.calls) == 1:
                    await self._end(child)
                elif child.alive:
                    child.send(number)
                raise
            finally:
                del child.calls[number]

    async def stop(self) -> None:
        """End the child, if there is one, and every call; for good. Returns when nothing is left of it."""
        self._stopped = True
        if self._child is not None:
            self._child.signal()  # calls under way see the end of its pipe
        async with self._lock:
            await self._clear()

    async def _ready(self, function: str) -> Child:
        """A child that can take a call."""
        async with self._lock:
            if self._stopped:
                raise WorkerDied(f"{self.name}: stopped before {function}")
            if self._child is None or not self._child.alive:
                await self._clear()
                self._child = await self._start()
            return self._child

    async def _start(self) -> Child:
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        start = asyncio.create_task(
            asyncio.create_subprocess_exec(
                sys.executable, "-m", "ponas_node.worker", str(self._nice), str(self._memory_mb),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, start_new_session=True,
            )
        )  # fmt: skip
        try:
            return Child(await asyncio.shield(start))
        except asyncio.CancelledError:  # a child half started would be nobody's
            await Child(await start).end()
            raise

    async def _end(self, child: Child) -> None:
        """Kill this child, unless another call has done so."""
        async with self._lock:
            if self._child is child:
                await self._clear()

    async def _clear(self) -> None:
        if self._child is not None:
            await self._child.end()
            self._child = None


def _read(pipe: BinaryIO) -> Any:
    head = pipe.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    return msgpack.unpackb(pipe.read(size), raw=False)


def _write(pipe: BinaryIO, *values: Any) -> None:
    payload = msgpack.packb(list(values), use_bin_type=True)
    pipe.write(struct.pack(">I", len(payload)) + payload)
    pipe.flush()


def _listen(pipe: BinaryIO, calls: SimpleQueue[Any]) -> None:
    while (call := _read(pipe)) is not None:
        calls.put(call)
    calls.put(None)


def serve() -> None:
    """The child: answer calls from standard input until it closes. It dies with its parent.

    A job that is a generator takes turns with the others that are; what it yields is progress, or None.
    """
    os.nice(int(sys.argv[1]))
    limit = int(sys.argv[2]) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not break the frames
    from ponas_node import jobs

    calls, running = SimpleQueue[Any](), dict[int, Generator[Any, None, Any]]()
    threading.Thread(target=_listen, args=(requests, calls), daemon=True).start()
    while True:
        while not running or not calls.empty():
            call = calls.get()
            if call is None:
                return
            number, *what = call
            if what:
                running[number] = _job(jobs.JOBS, *what)
            elif number in running:
                running.pop(number).close()
        for number, job in list(running.items()):
            try:
                progress = next(job)
            except StopIteration as end:
                del running[number]
                _write(answers, "result", number, end.value)
            except Exception as error:
                if type(error).__name__ == "AcceleratorError":
                    raise  # the device is lost to this process, whatever the call: a new child may have it again
                del running[number]
                _write(answers, "error", number, type(error).__name__, str(error))
            else:
                if progress is not None:
                    _write(answers, "progress", number, progress)


def _job(known: dict[str, Callable[..., Any]], function: str, arguments: list[Any]) -> Generator[Any, None, Any]:
    value = known[function](*arguments)
    return (yield from value) if isinstance(value, Generator) else value


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve()
