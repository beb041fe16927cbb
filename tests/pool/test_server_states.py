"""Trainings that move from machine to machine over real sockets, and what no member can do to a pool with states."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import time

import aiohttp
import pytest

from chain.artifact import artifact_id
from ponas_node.artifacts import ArtifactStore
from ponas_node.miner.courier import Courier, NoState
from ponas_node.miner.executor import WHOLE, Checkpoint, Trained, TrainingFailed
from ponas_node.miner.link import PoolLink
from ponas_node.miner.local import LocalExecutor
from ponas_node.miner.member import PoolMember
from pool import messages, records
from pool.messages import LeaseGrant, LeaseRequest, Problem
from pool.pool import Pool
from pool.records import ResumedEntry, ShareEntry, VoidedEntry, sign_checkpoint
from pool.state_messages import (
    PART,
    Resume,
    SealedState,
    StateDenied,
    StateGrant,
    StatePart,
    StateRejected,
    StateRequest,
    StateTaken,
)
from pool.storage import MemoryStorage
from tests.miner.test_real_training import ENCODED, tiny_work
from tests.pool.kit import NETWORK, SAMPLES, key, make_settings, model_of
from tests.pool.rig import (
    BACKOFF,
    A,
    B,
    FakeExecutor,
    Site,
    answer,
    link_to,
    real_work,
    running,
    score_of,
    until,
)

C = key(3)
SEGMENTS = 4


def state_of(genotype, seed, index, salt=b""):
    return b"state " + genotype + seed + salt + bytes([index]) + bytes(500)


def fake_leaves(genotype, seed, salt=b""):
    states = [hashlib.sha256(state_of(genotype, seed, i, salt)).digest() for i in range(SEGMENTS + 1)]
    return (*states, artifact_id(model_of(genotype, salt)))


class Segments(FakeExecutor):
    """Trains in segments; hangs behind segment `last`. What it goes on from is what its leaves go on from."""

    def __init__(self, last: int | None = None, salt: bytes = b"", slots: int = 1) -> None:
        super().__init__(slots=slots)
        self.last, self.salt = last, salt
        self.began: list[tuple[bytes, int]] = []

    async def train(self, spec, genotype, seed, artifacts, on_progress=None, keeping=WHOLE):
        salt, first = self.salt, 0
        if keeping.start is not None:
            first = len(keeping.start.leaves) - 1
            salt = next(
                (s for s in (b"", b"forged") if state_of(genotype, seed, first, s) == keeping.start.state), None
            )
            if salt is None:
                raise TrainingFailed("this is no state")
        self.began.append((genotype, first))
        for index in range(first + 1, SEGMENTS + 1):
            if self.last is not None and index > self.last:
                await asyncio.sleep(3600)
            await asyncio.sleep(0.01)
            on_progress(spec.steps * index // SEGMENTS)
            leaves = fake_leaves(genotype, seed, salt)[: index + 1]
            if keeping.take is not None and index < SEGMENTS:
                keeping.take(Checkpoint(leaves, state_of(genotype, seed, index, salt)))
        self.trained.append(genotype)
        return Trained(fake_leaves(genotype, seed, salt), model_of(genotype, salt), score_of(genotype), SAMPLES)


class StateSite(Site):
    """A pool that replays the fake trainings above."""

    async def _replay(self, replay):
        self.replayed.append(replay.genotype)
        return fake_leaves(replay.genotype, replay.work.seed)[: replay.leaves]


def new_pool(storage, **changes):
    values = {"lease_size": 1, "silence_seconds": 1.0, **changes}
    return Pool(storage, make_settings(**values), random.Random(3))


@pytest.fixture
async def site(tmp_path, monkeypatch):
    monkeypatch.setattr("pool.server.TICK_SECONDS", 0.05)
    monkeypatch.setattr("ponas_node.miner.courier.PART_SECONDS", 0.0)
    site = StateSite(new_pool(MemoryStorage()), tmp_path / "site" / "artifacts")
    await site.start(real_work(segments=SEGMENTS))
    yield site
    await site.stop()


def member_of(site, path, who, executor):
    return PoolMember(site.url, who, path, executor, backoff=BACKOFF, state_seconds=0.0)


def resumed_of(pool):
    return [entry for _, entry in pool.ledger.replay() if isinstance(entry, ResumedEntry)]


async def test_a_member_dies_and_another_finishes_the_same_bits(tmp_path, monkeypatch):
    """Real trainings: the leaves are those of a training that nobody interrupted, and only the rest was trained."""
    monkeypatch.setattr("pool.server.TICK_SECONDS", 0.05)
    work = tiny_work()
    work = dataclasses.replace(work, spec=dataclasses.replace(work.spec, steps=600, segments=12))

    async def evaluate(work, genotype, model):
        return claimed[0].validation_correct

    site = Site(new_pool(MemoryStorage(), silence_seconds=2.0), tmp_path / "site" / "artifacts", evaluate)
    site.artifacts.put(ENCODED)
    await site.start(work)
    claimed: list[Trained] = []
    async with running(member_of(site, tmp_path / "a", A, LocalExecutor(nice=0))):
        await until(lambda: site.pool.relays.states(), 60)
        [held] = site.pool.leases.live()
    [genotype] = held.lease.genotypes
    [kept] = site.pool.relays.kept(genotype).values()
    whole = LocalExecutor(nice=0)
    claimed.append(await whole.train(work.spec, genotype, work.seed, ArtifactStore(tmp_path / "site/artifacts").root))
    await whole.stop()
    assert 1 < len(kept.checkpoint.leaves) < 13
    async with running(member_of(site, tmp_path / "b", B, LocalExecutor(nice=0))):
        await until(lambda: site.pool.book.shares[B.address], 90)
    [entry] = resumed_of(site.pool)
    assert entry.signed.share.leaves == claimed[0].leaves
    assert entry.checkpoint == kept
    await site.stop()


@pytest.mark.parametrize("restart", [False, True])
async def test_states_outlive_their_member_and_the_pools_process(site, tmp_path, restart):
    async with running(member_of(site, tmp_path / "a", A, Segments(last=3))):
        await until(lambda: site.pool.relays.states())
        [genotype] = site.pool.leases.live()[0].lease.genotypes
        await until(lambda: len(site.pool.relays.kept(genotype)[1].checkpoint.leaves) == 4)
    if restart:
        work, storage = site.pool.work, site.pool._storage._below.copy()
        await site.stop()
        site.pool = new_pool(storage)
        await site.start(work)
    finisher = Segments()
    async with running(member_of(site, tmp_path / "b", B, finisher)):
        await until(lambda: resumed_of(site.pool))
        await until(lambda: site.pool.book.shares[B.address] > 2)
    assert (genotype, 3) in finisher.began
    entry = resumed_of(site.pool)[0]
    assert entry.signed.share.leaves == fake_leaves(genotype, site.pool.work.seed)
    assert (site.pool.book.earned[A.address], site.pool.book.earned[B.address] > 0) == (0, True)
    await site.server.states.sweep()
    folder = tmp_path / "site" / "states"
    assert {path.name for path in folder.iterdir()} == {id.hex() for id in site.pool.relays.states()}
    assert fake_leaves(genotype, site.pool.work.seed)[3].hex() not in {path.name for path in folder.iterdir()}


async def test_a_machine_that_restarts_goes_on_where_it_was(site, tmp_path):
    async with running(member_of(site, tmp_path / "a", A, Segments(last=2))):
        await until(lambda: site.pool.relays.states())
        [genotype] = site.pool.leases.live()[0].lease.genotypes
        await until(lambda: len(site.pool.relays.kept(genotype)[1].checkpoint.leaves) == 3)
    again = Segments()
    async with running(member_of(site, tmp_path / "a", A, again)):
        await until(lambda: site.pool.book.shares[A.address])
    assert again.began[0] == (genotype, 2)
    assert not resumed_of(site.pool)


async def test_a_false_state_is_its_uploaders_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("pool.server.TICK_SECONDS", 0.05)
    monkeypatch.setattr("ponas_node.miner.courier.PART_SECONDS", 0.0)
    site = StateSite(new_pool(MemoryStorage()), tmp_path / "site" / "artifacts")
    await site.start(real_work(segments=SEGMENTS))
    async with running(member_of(site, tmp_path / "a", A, Segments(last=2, salt=b"forged"))):
        await until(lambda: site.pool.relays.states())
    async with running(member_of(site, tmp_path / "b", B, Segments())):
        await until(lambda: resumed_of(site.pool))
        async with running(member_of(site, tmp_path / "c", C, Segments())):
            await until(lambda: site.pool.book.refuted)
            await until(lambda: site.pool.book.voided)
            await until(lambda: site.pool.book.shares[C.address] and site.pool.book.shares[B.address] > 1)
    assert site.pool.book.refuted.keys() == {A.address}
    [voided] = [entry for _, entry in site.pool.ledger.replay() if isinstance(entry, VoidedEntry)]
    assert voided.member == B.address
    assert resumed_of(site.pool)[0].signed.share.genotype in site.replayed
    await site.stop()


# --- by hand


def checkpoint_of(lease, genotype, segments, member=A, seed=b"", **changes):
    leaves = fake_leaves(genotype, seed)[: segments + 1]
    size = len(state_of(genotype, seed, segments))
    values = records.Checkpoint(NETWORK, lease.epoch, lease.task, lease.lease, genotype, leaves, size, member.public)
    return sign_checkpoint(dataclasses.replace(values, **changes), member)


async def leased(site, http, member=A):
    link = await link_to(site, http, member)
    await link.send(LeaseRequest(0, ()))
    return link, await answer(link, LeaseGrant)


async def sent(link, message):
    await link.send(message)
    async with asyncio.timeout(10):
        async for found in link.receive():
            if isinstance(found, StateTaken | StateRejected | StateGrant | StateDenied | Problem):
                return found
    raise AssertionError("the connection ended")


async def test_parts_must_come_in_order_and_be_the_state(site):
    async with aiohttp.ClientSession() as http:
        link, lease = await leased(site, http)
        [genotype] = lease.genotypes
        signed, state = checkpoint_of(lease, genotype, 2), state_of(genotype, b"", 2)

        async def part(offset, data, of=signed):
            return await sent(link, link.seal_state(StatePart(of, offset, data)))

        assert await part(0, state[:100]) == StateTaken(signed.checkpoint.id, 100, False)
        assert (await part(50, state[50:])).code == "bad_part"
        assert (await part(100, state[100:])).code == "bad_part"  # it began anew
        assert (await part(0, state + b"!")).code == "bad_part"
        assert (await part(0, b"!" + state[1:])).code == "bad_state"
        large = checkpoint_of(lease, genotype, 2, state_bytes=2**32 - 1)
        assert (await part(0, state, large)).code == "too_large"
        assert (await part(0, state, checkpoint_of(lease, genotype, 2, B))).code == "wrong_member"
        assert not site.pool.relays.states()
        assert not site.server.states._uploads
        assert await part(0, state[:100]) == StateTaken(signed.checkpoint.id, 100, False)
        assert await part(100, state[100:]) == StateTaken(signed.checkpoint.id, len(state), True)
        assert (await part(0, state)).code == "not_newer"


async def test_states_are_sealed_bound_to_their_place_and_limited_in_size_and_rate(site):
    async with aiohttp.ClientSession() as http:
        link, lease = await leased(site, http)
        [genotype] = lease.genotypes
        signed, state = checkpoint_of(lease, genotype, 1), state_of(genotype, b"", 1)
        frame = link.seal_state(StatePart(signed, 0, state))
        assert state[:40] not in frame.sealed
        assert isinstance(await sent(link, frame), StateTaken)
        assert (await sent(link, frame)).code == "replayed"
        other = await link_to(site, http, B)
        assert (await sent(other, SealedState(1, frame.sealed))).code == "bad_seal"
        assert (await sent(other, SealedState(1, bytes(PART + 4096)))).code == "bad_seal"
        await other._socket.send_bytes(bytes([18]) + bytes(2 * PART))
        assert (await answer(other, Problem)).code == "bad_encoding"
        for _ in range(70):
            await other.send(SealedState(1, bytes(64)))
        codes = []
        async for message in other.receive():
            if isinstance(message, Problem):
                codes.append(message.code)
        assert len(codes) == 17  # with the three before, as many as a connection has
        assert other._socket.closed


async def test_so_many_states_come_in_at_a_time_and_who_stalls_gives_way(site, monkeypatch):
    async with aiohttp.ClientSession() as http:
        links = [await leased(site, http, key(number)) for number in range(9)]

        async def begin(number):
            link, lease = links[number]
            signed = checkpoint_of(lease, lease.genotypes[0], 1, key(number))
            return await sent(link, link.seal_state(StatePart(signed, 0, b"x")))

        assert [type(await begin(number)) for number in range(9)] == [StateTaken] * 8 + [StateRejected]
        await links[0][0].close()
        await until(lambda: len(site.server.states._uploads) == 7)
        assert isinstance(await begin(8), StateTaken)
        site.server.states._clock = lambda: time.time() + 31
        assert isinstance(await begin(1), StateTaken)
        assert len(site.server.states._uploads) == 1


async def test_only_the_holder_of_the_lease_gets_the_state_and_only_under_its_own_key(site, monkeypatch):
    async with aiohttp.ClientSession() as http:
        link, lease = await leased(site, http)
        [genotype] = lease.genotypes
        signed, state = checkpoint_of(lease, genotype, 1), state_of(genotype, b"", 1)
        assert (await sent(link, link.seal_state(StatePart(signed, 0, state)))).kept
        await link.close()
        await until(lambda: not site.pool.leases.live())
        other, again = await leased(site, http, B)
        assert again.genotypes == (genotype,)
        assert again.resumes == (Resume(genotype, signed.checkpoint.leaves, len(state), False),)
        third = await link_to(site, http, C)
        request = third.state_request(again.lease, genotype, 0, bytes([9]) * 32)
        assert (await sent(third, request)).code == "not_leased"
        good = other.state_request(again.lease, genotype, 0, bytes([9]) * 32)
        assert (await sent(other, dataclasses.replace(good, key=bytes([8]) * 32))).code == "bad_signature"
        assert (
            await sent(other, other.state_request(again.lease, genotype, 10**6, bytes([9]) * 32))
        ).code == "no_state"
        assert (await sent(other, dataclasses.replace(good, genotype=b"x"))).code == "bad_signature"
        assert isinstance(await sent(other, good), StateGrant)
        assert isinstance(
            await sent(other, StateRequest(again.lease, genotype, 0, bytes(32), good.signature)), StateDenied
        )


async def test_a_pool_that_sends_nonsense_leaves_the_member_to_train_from_the_beginning(site, monkeypatch):
    courier = Courier(A, lambda text: None, None)
    async with aiohttp.ClientSession() as http:
        link, lease = await leased(site, http)
        [genotype] = lease.genotypes
        signed, state = checkpoint_of(lease, genotype, 1), state_of(genotype, b"", 1)
        assert (await sent(link, link.seal_state(StatePart(signed, 0, state)))).kept

        async def listen():
            async for message in link.receive():
                courier.take(message)

        task = asyncio.create_task(listen())
        good = Resume(genotype, signed.checkpoint.leaves, len(state), True)
        assert (await courier.fetch(link, lease.lease, good)).state == state
        for wrong, says in (
            (dataclasses.replace(good, leaves=(bytes(32), bytes(32))), "not that of the last leaf"),
            (dataclasses.replace(good, state_bytes=len(state) - 1), "not that of the last leaf"),
            (dataclasses.replace(good, state_bytes=len(state) + 1), "does not have these bytes"),
            (dataclasses.replace(good, genotype=b"other"), "does not hold"),
        ):
            with pytest.raises(NoState, match=says):
                await courier.fetch(link, lease.lease, wrong)
        await courier._fetching.acquire()
        monkeypatch.setattr("ponas_node.miner.courier.ANSWER_SECONDS", 0.05)
        with pytest.raises(NoState, match="other slots"):
            await courier.fetch(link, lease.lease, good)
        courier._fetching.release()
        assert (await courier.fetch(link, lease.lease, good)).state == state
        task.cancel()


async def test_many_slots_go_on_at_once_within_the_limits_of_a_connection(tmp_path, monkeypatch):
    """States of many parts: none is dropped for its rate, in either direction."""
    monkeypatch.setattr("pool.server.TICK_SECONDS", 0.05)
    monkeypatch.setattr("pool.states.PART", 64)
    monkeypatch.setattr("ponas_node.miner.courier.PART", 128)
    monkeypatch.setattr("ponas_node.miner.courier.PART_SECONDS", 0.02)
    for kind in (SealedState, StateRequest):
        limit = dataclasses.replace(messages.LIMITS[kind], rate=60, burst=4)
        monkeypatch.setitem(messages.LIMITS, kind, limit)
    site = StateSite(new_pool(MemoryStorage(), silence_seconds=4.0), tmp_path / "site" / "artifacts")
    await site.start(real_work(segments=SEGMENTS))
    async with running(member_of(site, tmp_path / "a", A, Segments(last=1, slots=3))):
        await until(lambda: len(site.pool.relays.states()) == 3)
    await until(lambda: not site.pool.leases.live())
    finisher = Segments(slots=3)
    member = member_of(site, tmp_path / "b", B, finisher)
    member._courier._seconds = None
    async with running(member):
        await until(lambda: len(resumed_of(site.pool)) == 3)
    assert member.state.trouble == ""
    await site.stop()


async def test_a_training_whose_state_is_rubbish_begins_anew(site, tmp_path):
    async with aiohttp.ClientSession() as http:
        link, lease = await leased(site, http)
        [genotype] = lease.genotypes
        rubbish = b"rubbish"
        leaves = (bytes(32), hashlib.sha256(rubbish).digest())
        signed = checkpoint_of(lease, genotype, 1, leaves=leaves, state_bytes=len(rubbish))
        assert (await sent(link, link.seal_state(StatePart(signed, 0, rubbish)))).kept
    await until(lambda: not site.pool.leases.live())
    finisher = Segments()
    async with running(member_of(site, tmp_path / "b", B, finisher)):
        await until(lambda: site.pool.book.shares[B.address])
    assert finisher.began[0] == (genotype, 0)
    first = next(entry for _, entry in site.pool.ledger.replay() if isinstance(entry, ShareEntry))
    assert type(first) is ShareEntry
    assert first.signed.share.leaves == fake_leaves(genotype, site.pool.work.seed)


async def test_a_pool_without_room_for_states_says_so(tmp_path):
    site = StateSite(new_pool(MemoryStorage(), max_state_bytes=0), tmp_path / "site" / "artifacts")
    await site.start(real_work(segments=SEGMENTS))
    trainer = Segments()
    async with running(member_of(site, tmp_path / "a", A, trainer)):
        await until(lambda: site.pool.book.shares[A.address] > 1)
    async with aiohttp.ClientSession() as http:
        assert (await PoolLink.open(http, site.url, B, b"w")).hello.max_state_bytes == 0
    assert not site.pool.relays.states()
    await site.stop()
