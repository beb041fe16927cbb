from __future__ import annotations

import asyncio
import dataclasses

import aiohttp
import pytest

from chain.artifact import artifact_id
from chain.hashing import digest
from ponas_node.miner.executor import WHOLE
from ponas_node.miner.folder import DataInUse
from ponas_node.miner.link import LinkError, PoolLink, fetch_artifact
from ponas_node.miner.member import PoolMember
from pool import messages
from pool.audit import AuditPolicy
from pool.messages import (
    Hello,
    LeaseDenied,
    LeaseGrant,
    LeaseRequest,
    Problem,
    Progress,
    ShareAccepted,
    ShareRejected,
    ShareUpload,
)
from pool.storage import MemoryStorage
from tests.pool.kit import make_share
from tests.pool.rig import (
    BACKOFF,
    DATASET,
    A,
    B,
    FakeExecutor,
    Site,
    answer,
    join_of,
    last_words,
    link_to,
    new_pool,
    raw,
    real_work,
    running,
    score_of,
    until,
)


async def test_two_members_share_the_search_without_overlap(site, tmp_path):
    executors = {A: FakeExecutor(), B: FakeExecutor(slots=2)}
    members = [
        PoolMember(site.url, member, tmp_path / str(i), executor, backoff=BACKOFF)
        for i, (member, executor) in enumerate(executors.items())
    ]
    async with running(*members):
        await until(lambda: all(member.state.accepted >= 10 for member in members))
    first, second = (set(executor.trained) for executor in executors.values())
    assert not first & second
    assert len(site.evaluated) == len(set(site.evaluated))
    for member, signer in zip(members, (A, B), strict=True):
        view = site.pool.member(signer.address)
        assert view.shares >= member.state.accepted
        assert not view.rejections
        assert view.earned > 0
    best = site.pool.candidates(1)[0]
    assert best.validation_correct == max(score_of(genotype) for genotype in (r.genotype for r in site.pool.archive))
    assert artifact_id(site.artifacts.read(best.model)) == best.model


async def test_pool_killed_and_restarted_keeps_every_acknowledged_share(tmp_path):
    storage = MemoryStorage()
    site = Site(new_pool(storage), tmp_path / "site")
    work = real_work()
    await site.start(work)
    members = [
        PoolMember(site.url, member, tmp_path / str(i), FakeExecutor(0.02), backoff=BACKOFF)
        for i, member in enumerate((A, B))
    ]
    async with running(*members):
        for round_ in range(1, 4):
            await until(lambda wanted=4 * round_: all(member.state.accepted >= wanted for member in members))
            await site.stop()
            storage = storage.copy()
            site.pool = new_pool(storage)
            for member, signer in zip(members, (A, B), strict=True):
                assert site.pool.member(signer.address).shares >= member.state.accepted
            await site.start(work)
        await until(lambda: all(member.state.accepted >= 16 for member in members))
        await until(lambda: all(member.state.connected for member in members))
    for member, signer in zip(members, (A, B), strict=True):
        view = site.pool.member(signer.address)
        assert view.shares in (member.state.accepted, member.state.accepted + 1)
        assert sum(member.state.rejected.values()) == 0


async def test_a_miner_that_was_killed_sends_its_share_after_the_restart(site, tmp_path):
    async def never(work, genotype, model):
        await asyncio.sleep(3600)

    site._evaluate = never
    member = PoolMember(site.url, A, tmp_path / "m", FakeExecutor(), backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.trained >= 1)
    assert len(list((tmp_path / "m" / "outbox" / site.key.address.hex()).iterdir())) >= 1
    site._evaluate = site._score
    again = PoolMember(site.url, A, tmp_path / "m", FakeExecutor(3600), backoff=BACKOFF)
    async with running(again):
        await until(lambda: again.state.accepted >= 1)
    assert site.pool.member(A.address).shares >= 1


async def test_a_silent_members_lease_is_trained_by_another(tmp_path):
    site = Site(new_pool(silence_seconds=1.0), tmp_path / "site")
    await site.start(real_work())
    silent = PoolMember(site.url, A, tmp_path / "a", FakeExecutor(3600), backoff=BACKOFF)
    worker = FakeExecutor()
    busy = PoolMember(site.url, B, tmp_path / "b", worker, backoff=BACKOFF)
    async with running(silent, busy):
        await until(lambda: site.pool.leases.live() and silent.state.slots[0].genotype)
        wanted = silent.state.slots[0].genotype
        await until(lambda: wanted in worker.trained)
    await site.stop()


async def test_a_new_epoch_stops_the_training_of_the_last(site, tmp_path):
    slow = FakeExecutor(3600)
    member = PoolMember(site.url, A, tmp_path / "m", slow, backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.slots and member.state.slots[0].genotype)
        slow.seconds = 0.01
        site.server.set_work(real_work(2))
        await until(lambda: member.state.accepted >= 1)
        assert member.state.epoch == 2
        site.server.set_work(None)
        await until(lambda: member.state.epoch is None)


async def test_a_liar_earns_nothing_and_reads_why(site, tmp_path):
    member = PoolMember(site.url, A, tmp_path / "m", FakeExecutor(lie=5), backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.rejected["wrong_score"] >= 5)
        await until(lambda: any("too_many_bad_shares" in line for line in member.state.lines))
    view = site.pool.member(A.address)
    assert (view.shares, view.earned) == (0, 0)
    assert view.rejections[0].code == "wrong_score"
    assert not list(site.artifacts.root.glob("[0-9a-f]*"))[1:]


async def test_what_a_member_cannot_train_goes_to_others(site, tmp_path):
    member = PoolMember(site.url, A, tmp_path / "m", FakeExecutor(fail=True), backoff=BACKOFF)
    async with running(member):
        await until(lambda: site.pool.leases.queue)


async def test_an_evaluation_that_fails_is_retried(site, tmp_path):
    calls = []

    async def shaky(work, genotype, model):
        calls.append(genotype)
        if len(calls) == 1:
            raise RuntimeError("worker died")
        return score_of(genotype)

    site._evaluate = shaky
    member = PoolMember(site.url, A, tmp_path / "m", FakeExecutor(), backoff=BACKOFF)
    async with running(member):
        await until(lambda: member.state.accepted >= 1)
    assert calls[0] == calls[1]


async def test_one_data_directory_one_miner(site, tmp_path):
    first = PoolMember(site.url, A, tmp_path / "m", FakeExecutor())
    with pytest.raises(DataInUse, match="another miner"):
        PoolMember(site.url, A, tmp_path / "m", FakeExecutor())
    first._lock.close()


async def test_a_wrong_or_missing_dataset_is_refused(site):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(LinkError, match="404"):
            await fetch_artifact(http, site.url, bytes(32), 5)
        id = artifact_id(DATASET)
        with pytest.raises(LinkError, match="larger"):
            await fetch_artifact(http, site.url, id, len(DATASET) - 1)
        with pytest.raises(LinkError, match="not the one"):
            await fetch_artifact(http, site.url, id, len(DATASET) + 1)
        assert await fetch_artifact(http, site.url, id, len(DATASET)) == DATASET


async def test_a_join_must_be_signed_for_this_pool_and_connection(site):
    async with aiohttp.ClientSession() as http:
        first, hello = await raw(site, http)
        second, _ = await raw(site, http)
        assert isinstance(hello, Hello)
        join = join_of(hello)
        await second.send_bytes(messages.encode(join))
        assert await last_words(second) == "bad_signature"
        await first.send_bytes(b"\xff")
        assert await last_words(first) == "bad_encoding"
        third, _ = await raw(site, http)
        await third.send_bytes(messages.encode(LeaseRequest(0, ())))
        assert await last_words(third) == "no_join"


async def test_handshake_timeout(site, monkeypatch):
    monkeypatch.setattr("pool.session.HANDSHAKE_SECONDS", 0.1)
    async with aiohttp.ClientSession() as http:
        socket, _ = await raw(site, http)
        assert await last_words(socket) == "timeout"


async def test_a_flood_is_dropped_with_a_reason_and_then_cut_off(site):
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        for _ in range(messages.LIMITS[LeaseRequest].burst + 40):
            await link.send(LeaseRequest(0, ()))
        codes = []
        async for message in link.receive():
            if isinstance(message, Problem):
                codes.append(message.code)
        assert set(codes) == {"rate_limited"}
        assert len(codes) == 20


async def test_messages_that_are_too_large_or_not_for_members(site):
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        await link._socket.send_bytes(b"\x07" + bytes(5000))
        assert (await answer(link, Problem)).code == "bad_encoding"
        await link.send(ShareAccepted(bytes(32), 1, site.server.head()))
        assert (await answer(link, Problem)).code == "unexpected"
        await link.send(Progress(0, 99, 1))
        assert (await answer(link, messages.LeaseLost)).lease == 99
        await link._socket.send_bytes(bytes(3 << 20))
        async for _ in link.receive():
            pass
        assert link._socket.closed


async def test_shares_by_hand(site):
    async with aiohttp.ClientSession() as http:
        link, other = await link_to(site, http), await link_to(site, http, B)
        await link.send(LeaseRequest(0, ()))
        lease = await answer(link, LeaseGrant)
        held = site.pool.leases.held[lease.lease].lease
        genotype = lease.genotypes[0]
        signed, model = make_share(site.pool.work, held, genotype, A, score_of(genotype))
        await other.upload(ShareUpload(signed, model))
        assert (await answer(other, ShareRejected)).code == "wrong_member"
        for _ in range(2):
            await link.upload(ShareUpload(signed, model))
            assert (await answer(link, ShareAccepted)).share == signed.share.id
        assert site.evaluated == [genotype]
        site.server.set_work(None)
        await link.send(LeaseRequest(1, ()))
        assert (await answer(link, LeaseDenied)).code == "no_work"


async def test_the_pool_must_prove_its_key(site, monkeypatch):
    class Impostor:
        public, sign = B.public, A.sign

    monkeypatch.setattr(site.server, "key", Impostor())
    async with aiohttp.ClientSession() as http:
        with pytest.raises(LinkError, match="does not hold the key"):
            await link_to(site, http)


async def test_no_pool_at_this_address(site):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(LinkError, match="there is no pool"):
            await PoolLink.open(http, site.url + "/x", A, b"w")
        with pytest.raises(LinkError, match="cannot connect"):
            await PoolLink.open(http, "http://127.0.0.1:9", A, b"w")


async def test_a_member_that_forges_trainings_is_caught_by_a_double_lease_and_banned(tmp_path, monkeypatch):
    monkeypatch.setattr("pool.server.TICK_SECONDS", 0.05)

    class Forger(FakeExecutor):
        """Hands in models that score what it claims, and that no training gives."""

        async def train(self, spec, genotype, seed, artifacts, on_progress=None, keeping=WHOLE):
            done = await super().train(spec, genotype, seed, artifacts, on_progress)
            model = done.model + b"!"
            leaves = (*done.leaves[:-2], digest("forged", genotype), artifact_id(model))
            return dataclasses.replace(done, leaves=leaves, model=model)

    storage = MemoryStorage()
    site = Site(new_pool(storage, audits=AuditPolicy()), tmp_path / "site")
    await site.start(real_work())
    forger = PoolMember(site.url, A, tmp_path / "a", Forger(), backoff=BACKOFF)
    honest = PoolMember(site.url, B, tmp_path / "b", FakeExecutor(), backoff=BACKOFF)
    async with running(forger, honest):
        await until(lambda: forger.state.accepted >= 2 and honest.state.accepted >= 2)
        await until(lambda: site.pool.book.refuted)
        await until(lambda: "refuted" in forger.state.trouble or forger.state.rejected["banned"])
    await site.stop()
    for pool in (site.pool, new_pool(storage.copy())):
        assert pool.book.refuted.keys() == {A.address}
        assert pool.member(A.address).carried == 0
        assert pool.member(B.address).earned > 0
        assert {found.finder for found in pool.archive} == {B.address}
    assert site.replayed
