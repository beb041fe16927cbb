"""Audits results that hold seats, by training them again, and challenges what proves to be false. Source: protocol C12.

A verdict is on disk before anything follows from it, so a restart neither audits twice nor forgets a forgery.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from chain import accounts
from chain.encoding import U32, U64, Hash, Range, Record
from chain.errors import Invalid, NotApplicable
from chain.keys import PrivateKey
from chain.types import Kind
from consensus import records
from consensus.challenge import challenge_fact, find_open
from consensus.facts import TRUE
from consensus.types import ChallengeBody, EpochRecord, MaybeHash, ResultRecord
from ponas_node.audit_choice import Choice, choose
from ponas_node.miner.executor import TRAIN_SECONDS
from ponas_node.oracle import FOR_OWN_SEARCH
from ponas_node.sender import Sender
from ponas_node.worker import Worker, WorkerDied, WorkerError

if TYPE_CHECKING:
    from ponas_node.node import Node

log = logging.getLogger(__name__)
_SECRET, _VERDICT = b"secret", b"v"


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What an audit of a result found; where it is `forged`, the challenge that proves it."""

    result: Hash
    epoch: U64
    forged: bool
    segment: Annotated[int, Range(0, 256)]
    state: MaybeHash
    state_bytes: U32

    @property
    def challenge(self) -> ChallengeBody:
        """Body of the challenge."""
        return ChallengeBody(self.result, self.segment, self.state, self.state_bytes)


class Auditor:
    """Audits and challenges for one key on one node."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self._node = node
        self._key = key
        self._store = node.store.namespace(b"auditor")
        self._worker = Worker("auditor", nice=node.config.nice)
        self._sender = Sender(node, key)
        self._failed: set[bytes] = set()  # results that could not be audited; tried again after a restart
        self._unpaid: set[bytes] = set()  # forged results that the wallet's owner was told it cannot challenge
        self._stopped = False
        self.audits = 0
        self.forgeries = 0

    async def start(self) -> None:
        """Audit and challenge from now on."""
        self._node.spawn(self._audit())
        self._node.spawn(self._challenge())

    async def stop(self) -> None:
        """Give up the audit under way."""
        self._stopped = True
        await self._worker.stop()

    def counters(self) -> dict[str, float]:
        """For the node's metrics."""
        return {"audits": self.audits, "forgeries_found": self.forgeries}

    # ---- auditing

    async def _audit(self) -> None:
        share = self._node.config.audit_share
        while True:
            await asyncio.sleep(self._node.genesis.consensus.slot_milliseconds / 1000)
            if self._node.sync_status()["syncing"]:
                continue
            self._forget_old()
            due, spare = self._next()
            if due is not None:
                await self._examine(due)
            elif spare is not None and share > 0:
                started = time.monotonic()
                await self._examine(spare)
                await asyncio.sleep((time.monotonic() - started) * (1 / share - 1))

    def _next(self) -> tuple[ResultRecord | None, ResultRecord | None]:
        """The next result that is due, and the next for spare time."""
        chain, spare = self._node.chain, None
        for epoch in records.open_epochs(chain.state, self._node.genesis.consensus, chain.height + 1):
            choice = self._choice(epoch)
            due = next(filter(self._is_open, choice.due), None)
            if due is not None:
                return due, None
            spare = spare or next(filter(self._is_open, choice.spare), None)
        return None, spare

    def _choice(self, epoch: EpochRecord) -> Choice:
        """What to audit of a settled epoch."""
        state, parameters = self._node.chain.state, self._node.genesis.consensus
        task = records.need_task(state, epoch.task)
        return choose(
            records.results_of(state, epoch), task.spec.baseline_correct, parameters.seats,
            self._node.config.audit_rate, self._key.public, self._secret(),
        )  # fmt: skip

    def _is_open(self, result: ResultRecord) -> bool:
        return result.id not in self._failed and self._store.get(_VERDICT + result.id) is None

    async def _examine(self, result: ResultRecord) -> None:
        """Train a result again and write down what was found."""
        try:
            verdict = await audit_result(self._node, self._worker, result)
        except (WorkerDied, WorkerError) as error:
            if not self._stopped:
                log.warning("result %s could not be audited: %s", result.id.hex()[:16], error)
            self._failed.add(result.id)
            return
        self._store.put(_VERDICT + result.id, verdict.encode())
        self.audits += 1
        if verdict.forged:
            self.forgeries += 1
            log.warning("result %s is forged: segment %d is false", result.id.hex()[:16], verdict.segment)

    def _secret(self) -> bytes:
        found = self._store.get(_SECRET)
        if found is None:
            found = secrets.token_bytes(32)
            self._store.put(_SECRET, found)
        return found

    def _forget_old(self) -> None:
        """Drop the verdicts of epochs that hold no bonds any more."""
        bonded = set(records.bonded_epochs(self._node.chain.state))
        current = records.current_epoch(self._node.chain.state).number
        for verdict in self._verdicts():
            # A reorganisation may bring an epoch back, so those just closed stay for a while.
            if verdict.epoch not in bonded and verdict.epoch + 8 < current:
                self._store.delete(_VERDICT + verdict.result)

    def _verdicts(self) -> list[Verdict]:
        return [Verdict.decode(value) for _, value in self._store.iterate(_VERDICT)]

    # ---- challenging

    async def _challenge(self) -> None:
        while True:
            await asyncio.sleep(self._node.genesis.consensus.slot_milliseconds / 2000)
            for verdict in self._verdicts():
                if verdict.forged:
                    await self._file(verdict)

    async def _file(self, verdict: Verdict) -> None:
        """Send the challenge, or do nothing where the result is revoked, its window over or the deposit not there."""
        node, parameters, name = self._node, self._node.genesis.consensus, verdict.result.hex()[:16]
        try:
            result = find_open(node.chain.state, parameters, verdict.result, node.chain.height + 1)
            balance = accounts.account(node.chain.state, self._key.address).balance
            accounts.left(balance, parameters.challenge_deposit)
            body = verdict.challenge
            fact = challenge_fact(node.chain.state, result, body.segment, body.state, body.state_bytes)
            if await node.oracle.establish(fact, FOR_OWN_SEARCH) != TRUE:
                log.critical("two replays of result %s differ here: this machine is not exact", verdict.result.hex())
                self._store.delete(_VERDICT + verdict.result)
                self._failed.add(verdict.result)
                return
            await self._sender.send(b"challenge" + verdict.result, Kind.CHALLENGE, body)
        except NotApplicable as error:
            unpaid = error.code == "insufficient_balance" and verdict.result not in self._unpaid
            log.log(logging.WARNING if unpaid else logging.DEBUG, "result %s is not challenged: %s", name, error)
            if unpaid:
                self._unpaid.add(verdict.result)
        except Invalid as error:
            log.warning("result %s could not be challenged: %s", name, error)


async def audit_result(node: Node, worker: Worker, result: ResultRecord) -> Verdict:
    """Train a result again. Where it is forged, the state that a challenge needs is among the node's artifacts.

    Raises WorkerDied, WorkerError.
    """
    state = node.chain.state
    epoch = records.need_epoch(state, result.epoch)
    task = records.need_task(state, result.task)
    segment, raw = await worker.call(
        "audit", task.spec.encode(), result.genotype, epoch.seed, list(result.leaves), str(node.artifacts.root),
        node.config.device, timeout=TRAIN_SECONDS,
    )  # fmt: skip
    if segment < 0:
        return Verdict(result.id, result.epoch, False, 0, b"", 0)
    artifact = node.artifacts.put(raw) if raw else b""
    return Verdict(result.id, result.epoch, True, segment, artifact, len(raw))
