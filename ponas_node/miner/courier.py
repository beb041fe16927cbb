"""Carries states of trainings between a miner and its pool, part by part: its own there, others' here to go on from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from chain.encoding import Record
from chain.keys import PrivateKey
from ponas_node.miner.answers import Answers
from ponas_node.miner.executor import Checkpoint, Keeping
from ponas_node.miner.link import LinkError, PoolLink
from pool import records
from pool.messages import LeaseGrant
from pool.records import SignedCheckpoint, sign_checkpoint
from pool.sealing import BadSeal, SealingKey
from pool.state_messages import (
    PART,
    Resume,
    StateDenied,
    StateGrant,
    StatePart,
    StateRejected,
    StateTaken,
)
from pool.work import Work

PART_SECONDS = 0.25
"""Between two parts: the pool takes no more of them from a connection."""
ANSWER_SECONDS = 30.0


class NoState(Exception):
    """There is nothing to go on from; the message says why."""


class Courier:
    """Of every slot the latest state goes to the pool; one at a time, as fast as the pool takes it."""

    def __init__(self, key: PrivateKey, say: Callable[[str], None], seconds: float | None) -> None:
        """A training is kept at most every `seconds`; None: never. `say` gets what the miner's owner should know."""
        self._key, self._say, self._seconds = key, say, seconds
        self._waiting: dict[int, tuple[bytes, SignedCheckpoint, bytes]] = {}  # by slot: pool, statement, state
        self._filled = asyncio.Event()
        self._fetching = asyncio.Lock()  # one state at a time, as the pool limits the rate of a connection
        self._answers = Answers[tuple[object, ...]]()

    async def keeping(self, slot: int, link: PoolLink, work: Work, lease: LeaseGrant, genotype: bytes) -> Keeping:
        """Where the training of a slot begins, and what the pool gets of it on the way."""
        start, resume = None, next((found for found in lease.resumes if found.genotype == genotype), None)
        most = link.hello.max_state_bytes
        if resume is not None and resume.state_bytes <= most:
            try:
                start = await self.fetch(link, lease.lease, resume)
                self._say(f"going on from segment {len(resume.leaves) - 1} of {work.spec.segments}")
            except (NoState, LinkError) as error:
                self._say(f"the training begins anew: {error}")
            if not resume.own:
                return Keeping(start)  # the pool hands a training on once only

        def take(made: Checkpoint) -> None:
            if len(made.state) <= most:
                checkpoint = records.Checkpoint(
                    link.hello.network, work.epoch, work.task, lease.lease, genotype, made.leaves, len(made.state),
                    self._key.public,
                )  # fmt: skip
                self.send(slot, link.pool, sign_checkpoint(checkpoint, self._key), made.state)

        return Keeping(start, self._seconds, take if most and self._seconds is not None else None)

    def send(self, slot: int, pool: bytes, signed: SignedCheckpoint, state: bytes) -> None:
        """Keep a state with `pool`, in place of an earlier one of the slot that has not gone yet."""
        self._waiting[slot] = pool, signed, state
        self._filled.set()

    def forget(self, slot: int) -> None:
        """The slot's training is over."""
        self._waiting.pop(slot, None)

    def take(self, message: Record) -> None:
        """The pool answered."""
        if isinstance(message, StateTaken | StateRejected):
            self._answers.take((message.checkpoint,), message)
        elif isinstance(message, StateGrant | StateDenied):
            self._answers.take((message.lease, message.genotype), message)

    def disconnected(self) -> None:
        """Nothing will be answered any more."""
        self._answers.disconnected()

    async def run(self, link: PoolLink) -> None:
        """Send what waits for this pool, for as long as the connection lasts."""
        while True:
            slot = next((slot for slot, (pool, _, _) in self._waiting.items() if pool == link.pool), None)
            if slot is None:
                self._filled.clear()
                await self._filled.wait()
                continue
            _, signed, state = self._waiting[slot]
            try:
                refused = await self._upload(link, signed, state)
            except LinkError:
                return  # what waits goes out again on the next connection
            except TimeoutError:
                self._say("the pool does not answer to a state, it is given up")
            else:
                if refused is not None:
                    self._say(f"the pool does not keep a state: {refused.reason} ({refused.code})")
            if self._waiting.get(slot, (b"", None, b""))[1] is signed:
                del self._waiting[slot]

    async def fetch(self, link: PoolLink, lease: int, resume: Resume) -> Checkpoint:
        """The state that a lease may go on from. Raises NoState, LinkError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._fetching.acquire()
        except TimeoutError as error:
            raise NoState("other slots fetch theirs, which takes too long") from error
        try:
            return await self._fetch(link, lease, resume)
        finally:
            self._fetching.release()

    async def _fetch(self, link: PoolLink, lease: int, resume: Resume) -> Checkpoint:
        key, state = SealingKey.generate(), bytearray()
        while len(state) < resume.state_bytes:
            request = link.state_request(lease, resume.genotype, len(state), key.public)
            try:
                answer = await self._answers.ask(link, request, (lease, resume.genotype), ANSWER_SECONDS)
            except TimeoutError as error:
                raise NoState("the pool does not answer") from error
            if isinstance(answer, StateDenied):
                raise NoState(f"{answer.reason} ({answer.code})")
            if not isinstance(answer, StateGrant) or answer.offset != len(state):
                raise NoState("the pool sent another part than was asked for")
            try:
                part = link.open_state(answer, key)
            except BadSeal as error:
                raise NoState(str(error)) from error
            if not part:
                raise NoState("the pool sent an empty part")
            state += part
            await asyncio.sleep(PART_SECONDS)
        if len(state) != resume.state_bytes or hashlib.sha256(state).digest() != resume.leaves[-1]:
            raise NoState("the state is not that of the last leaf")
        return Checkpoint(resume.leaves, bytes(state))

    async def _upload(self, link: PoolLink, signed: SignedCheckpoint, state: bytes) -> StateRejected | None:
        """Send a state. Answers why the pool does not keep it, None where it does. Raises LinkError, TimeoutError."""
        for offset in range(0, len(state), PART):
            message = link.seal_state(StatePart(signed, offset, state[offset : offset + PART]))
            answer = await self._answers.ask(link, message, (signed.checkpoint.id,), ANSWER_SECONDS)
            if isinstance(answer, StateRejected):
                return answer
            await asyncio.sleep(PART_SECONDS)
        return None
