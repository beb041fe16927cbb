"""Heavy work in a child process that can be killed: limits on time and memory, one call at a time.

Frames on the pipes are a 4-byte big-endian length and a MessagePack array. To the child: [function, arguments].
From it: ["progress", value] any number of times, then ["result", value], or ["error", kind, message].
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import msgpack

FRAME_LIMIT = 64 << 20


class WorkerError(Exception):
    """The job raised; the message is its own."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class WorkerDied(Exception):
    """The child ended, was killed, or ran past its time."""


class Worker:
    """A child process for the jobs of `ponas_node.jobs`. It starts at the first call and again after it died."""

    def __init__(self, name: str, nice: int = 0, memory_mb: int = 8192) -> None:
        self.name = name
        self._nice = nice
        self._memory_mb = memory_mb
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._stopped = False

    async def call(
        self, function: str, *arguments: Any, timeout: float, on_progress: Callable[[Any], None] | None = None
    ) -> Any:
        """Run a job. Raises WorkerError where it raised, WorkerDied where it ended or took over `timeout` seconds, or
        after `stop`.

        Cancelling the caller kills the child.
        """
        async with self._lock:
            if self._stopped:
                raise WorkerDied(f"{self.name}: stopped before {function}")
            process = await self._start()
            try:
                async with asyncio.timeout(timeout):
                    return await self._exchange(process, function, arguments, on_progress)
            except TimeoutError as error:
                await self._kill()
                raise WorkerDied(f"{self.name}: {function} took over {timeout:.0f} s and was stopped") from error
            except (asyncio.IncompleteReadError, ConnectionError, struct.error) as error:
                await self._kill()
                raise WorkerDied(f"{self.name}: the process ended during {function}") from error
            except asyncio.CancelledError:
                await self._kill()
                raise

    async def stop(self) -> None:
        """End the child, if there is one, and every call; for good. Returns when nothing is left of them."""
        self._stopped = True
        if self._process is not None:
            _signal(self._process)  # a call under way sees the end of its pipe, and cleans up
        async with self._lock:
            await self._kill()

    async def _exchange(
        self,
        process: asyncio.subprocess.Process,
        function: str,
        arguments: tuple[Any, ...],
        on_progress: Callable[[Any], None] | None,
    ) -> Any:
        if process.stdin is None or process.stdout is None:
            raise ConnectionError("worker has no pipes")
        payload = msgpack.packb([function, list(arguments)], use_bin_type=True)
        process.stdin.write(struct.pack(">I", len(payload)) + payload)
        await process.stdin.drain()
        while True:
            (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
            kind, *values = msgpack.unpackb(await process.stdout.readexactly(size), raw=False)
            if kind == "result":
                return values[0]
            if kind == "error":
                raise WorkerError(values[0], values[1])
            if on_progress is not None:
                on_progress(values[0])

    async def _start(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        start = asyncio.create_task(
            asyncio.create_subprocess_exec(
                sys.executable, "-m", "ponas_node.worker", str(self._nice), str(self._memory_mb),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, start_new_session=True,
            )
        )  # fmt: skip
        try:
            self._process = await asyncio.shield(start)
        except asyncio.CancelledError:  # a child half started would be nobody's
            self._process = await start
            await self._kill()
            raise
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process)
        # Both pipes must be seen to close: only then asyncio lets go of the child before its loop may be gone.
        await process.communicate()
        if process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await process.stdin.wait_closed()


def _signal(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


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


def serve() -> None:
    """The child: answer calls from standard input until it closes. It dies with its parent."""
    os.nice(int(sys.argv[1]))
    limit = int(sys.argv[2]) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not break the frames
    from ponas_node import jobs

    while (call := _read(requests)) is not None:
        function, arguments = call
        try:
            value = jobs.JOBS[function](lambda progress: _write(answers, "progress", progress), *arguments)
        except Exception as error:
            _write(answers, "error", type(error).__name__, str(error))
        else:
            _write(answers, "result", value)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve()
