"""The states of trainings under way, as the pool's server takes them in and hands them out, part by part."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pool import resumption
from pool.errors import StateRefused, Unavailable
from pool.pool import Pool
from pool.records import SignedCheckpoint
from pool.state_messages import PART, StatePart

UPLOADS = 8
"""States that come in at a time: so many of the largest size are in memory at most."""
STALE_SECONDS = 30.0
"""An upload of which nothing more came for so long gives up its place."""


class StateFiles(Protocol):
    """Where states are stored, by their SHA-256. All methods may raise OSError."""

    def put(self, id: bytes, data: bytes) -> None:
        """Store a state, durably."""
        ...

    def read(self, id: bytes, offset: int, size: int) -> bytes | None:
        """At most `size` bytes of a state; None where it is not here."""
        ...

    def keep_only(self, ids: set[bytes]) -> None:
        """Remove all other states."""
        ...


Commit = Callable[[Callable[[], object]], Awaitable[object]]


@dataclass(slots=True)
class Upload:
    """A state on its way in."""

    signed: SignedCheckpoint
    at: float
    data: bytearray = field(default_factory=bytearray)


class StateDesk:
    """`commit` makes a change of the pool durable. Connections are told apart by `owner`, each has one upload."""

    def __init__(self, pool: Pool, files: StateFiles, commit: Commit, clock: Callable[[], float]) -> None:
        self._pool, self._files, self._commit, self._clock = pool, files, commit, clock
        self._uploads: dict[object, Upload] = {}
        self._files_lock = asyncio.Lock()  # a state is not removed between being stored and being wanted

    async def take(self, owner: object, member_key: bytes, part: StatePart) -> tuple[int, bool]:
        """A part came in. Answers how many bytes are here, and whether the state is kept now. Raises StateRefused."""
        upload, id = self._place(owner, member_key, part), part.signed.checkpoint.state
        total = part.signed.checkpoint.state_bytes
        if part.offset != len(upload.data) or part.offset + len(part.data) > total:
            raise self._refused(owner, f"{part.offset} is not the next byte of this state", "bad_part")
        upload.data += part.data
        upload.at = self._clock()
        if len(upload.data) < total:
            return len(upload.data), False
        data = bytes(upload.data)
        if await asyncio.to_thread(lambda: hashlib.sha256(data).digest()) != id:
            raise self._refused(owner, "the state is not that of the last leaf", "bad_state")
        try:
            async with self._files_lock:
                await asyncio.to_thread(self._files.put, id, data)
                now = self._clock()
                await self._commit(lambda: resumption.keep(self._pool, member_key, part.signed, now))
        except (OSError, Unavailable) as error:
            raise StateRefused(f"the pool could not store the state now: {error}", "unavailable") from error
        finally:
            self.leave(owner)
        return total, True

    async def hand(self, member: bytes, lease: int, genotype: bytes, offset: int) -> bytes:
        """A part of the state that a lease was offered, from `offset` on. Raises StateRefused."""
        now_handed: list[SignedCheckpoint] = []
        try:
            await self._commit(lambda: now_handed.append(resumption.hand(self._pool, member, lease, genotype)))
            data = await asyncio.to_thread(self._files.read, now_handed[0].checkpoint.state, offset, PART)
        except (OSError, Unavailable) as error:
            raise StateRefused(f"the pool could not read the state now: {error}", "unavailable") from error
        if not data:
            raise StateRefused("the pool does not have these bytes of the state", "no_state")
        return data

    def leave(self, owner: object) -> None:
        """A connection ended, or its upload did."""
        self._uploads.pop(owner, None)

    async def sweep(self) -> None:
        """Remove the states that nobody wants any more. Raises OSError."""
        async with self._files_lock:
            await asyncio.to_thread(self._files.keep_only, self._pool.relays.states())

    def _place(self, owner: object, member_key: bytes, part: StatePart) -> Upload:
        """The upload that a part belongs to; a new one where it is the first."""
        known, now = self._uploads.get(owner), self._clock()
        if known is not None and known.signed == part.signed and part.offset:
            return known
        self.leave(owner)
        resumption.check(self._pool, member_key, part.signed)
        for other in [other for other, upload in self._uploads.items() if upload.at < now - STALE_SECONDS]:
            self.leave(other)
        if len(self._uploads) >= UPLOADS:
            raise StateRefused(f"the pool takes {UPLOADS} states at a time", "busy")
        self._uploads[owner] = Upload(part.signed, now)
        return self._uploads[owner]

    def _refused(self, owner: object, reason: str, code: str) -> StateRefused:
        self.leave(owner)
        return StateRefused(reason, code)
