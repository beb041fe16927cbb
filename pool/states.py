"""The states of trainings under way, as the pool's server takes them in and hands them out, part by part."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from chain.errors import Invalid
from chain.keys import address_of, verify
from pool import resumption
from pool.errors import StateRefused, Unavailable
from pool.messages import MOST_RESUMES, Hello
from pool.pool import Pool
from pool.records import SignedCheckpoint, clip
from pool.sealing import seal
from pool.state_messages import (
    PART,
    Resume,
    StateDenied,
    StateGrant,
    StatePart,
    StateRejected,
    StateRequest,
    StateTaken,
    grant_info,
    request_digest,
)

T = TypeVar("T")
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


class NoFiles:
    """Stores nothing: `StateFiles` of a pool that takes no states."""

    def put(self, id: bytes, data: bytes) -> None:
        """Raises OSError."""
        raise OSError("this pool takes no states")

    def read(self, id: bytes, offset: int, size: int) -> bytes | None:
        """There is none."""
        return None

    def keep_only(self, ids: set[bytes]) -> None:
        """There are none."""


class Commit(Protocol):
    """`PoolServer.commit`."""

    def __call__(self, change: Callable[[], T], urgent: bool = False) -> Awaitable[T]:
        """Make a change of the pool, and return once it is durable; raises what it raises, or Unavailable."""
        ...


@dataclass(slots=True)
class Upload:
    """A state on its way in."""

    signed: SignedCheckpoint
    at: float
    data: bytearray = field(default_factory=bytearray)


class StateDesk:
    """`commit` makes a change of the pool durable. Connections are told apart by `owner`, each has one upload.

    Without `files` no states are taken, nor offered.
    """

    def __init__(self, pool: Pool, files: StateFiles | None, commit: Commit, clock: Callable[[], float]) -> None:
        self.most = pool.settings.max_state_bytes if files is not None else 0
        self._pool, self._files, self._commit, self._clock = pool, files or NoFiles(), commit, clock
        self._uploads: dict[object, Upload] = {}
        self._files_lock = asyncio.Lock()  # a state is not removed between being stored and being wanted

    def offers(self, member: bytes, lease: int) -> tuple[Resume, ...]:
        """What the holder of a lease may go on from."""
        found = resumption.offers(self._pool, member, lease, self._clock())[:MOST_RESUMES] if self.most else []
        made = [(offer.signed.checkpoint, offer.own) for offer in found]
        return tuple(Resume(what.genotype, what.leaves, what.state_bytes, own) for what, own in made)

    async def take(self, owner: object, member_key: bytes, part: StatePart) -> StateTaken | StateRejected:
        """A part came in; the answer to it."""
        id = part.signed.checkpoint.id
        try:
            have, kept = await self._take(owner, member_key, part)
        except StateRefused as error:
            return StateRejected(id, error.code, clip(error))
        return StateTaken(id, have, kept)

    async def hand(
        self, hello: Hello, member_key: bytes, nonce: bytes, request: StateRequest
    ) -> StateGrant | StateDenied:
        """A member asks for a part of a state, in the connection of `hello` and `nonce`; the answer to it."""
        lease, genotype, offset = request.lease, request.genotype, request.offset
        try:
            claim = request_digest(hello, member_key, nonce, lease, genotype, request.key)
            verify(member_key, request.signature, claim)
            data = await self._read(address_of(member_key), lease, genotype, offset)
            sealed = seal(data, request.key, grant_info(hello, member_key, nonce, lease, genotype, offset))
        except Invalid as error:
            return StateDenied(lease, genotype, error.code, clip(error))
        return StateGrant(lease, genotype, offset, sealed)

    def leave(self, owner: object) -> None:
        """A connection ended, or its upload did."""
        self._uploads.pop(owner, None)

    async def sweep(self) -> None:
        """Remove the states that nobody wants any more. Raises OSError."""
        async with self._files_lock:
            await asyncio.to_thread(self._files.keep_only, self._pool.relays.states())

    async def _take(self, owner: object, member_key: bytes, part: StatePart) -> tuple[int, bool]:
        """How many bytes are here, and whether the state is kept now. Raises StateRefused."""
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

    async def _read(self, member: bytes, lease: int, genotype: bytes, offset: int) -> bytes:
        """A part of the state that a lease was offered, from `offset` on. Raises StateRefused."""
        now = self._clock()
        try:
            signed = await self._commit(lambda: resumption.hand(self._pool, member, lease, genotype, now))
            data = await asyncio.to_thread(self._files.read, signed.checkpoint.state, offset, PART)
        except (OSError, Unavailable) as error:
            raise StateRefused(f"the pool could not read the state now: {error}", "unavailable") from error
        if not data:
            raise StateRefused("the pool does not have these bytes of the state", "no_state")
        return data

    def _place(self, owner: object, member_key: bytes, part: StatePart) -> Upload:
        """The upload that a part belongs to; a new one where it is the first."""
        known, now = self._uploads.get(owner), self._clock()
        if known is not None and known.signed == part.signed and part.offset:
            return known
        self.leave(owner)
        if not self.most:
            raise StateRefused("this pool takes no states", "not_taken")
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
