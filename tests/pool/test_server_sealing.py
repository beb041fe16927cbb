"""Sealed uploads: the RFC's own vectors, and nothing that was recorded is of use in another place."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from chain.errors import BadEncoding
from pool import messages
from pool.messages import LeaseGrant, LeaseRequest, Problem, SealedUpload, ShareAccepted, ShareUpload
from pool.sealing import KEY, OVERHEAD, TAG, BadSeal, SealingKey, UploadKey, seal
from tests.pool.kit import make_share
from tests.pool.rig import A, B, answer, join_of, last_words, link_to, new_pool, raw, real_work, score_of, until

KEM, HPKE = b"KEM" + b"\x00\x20", b"HPKE" + b"\x00\x20\x00\x01\x00\x03"


def extract(suite, salt, label, key):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def expand(suite, secret, label, info, size):
    block = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01"
    return hmac.digest(secret, block, hashlib.sha256)[:size]


def reference_open(sealed: bytes, private: X25519PrivateKey, info: bytes, aad: bytes) -> bytes:
    """RFC 9180, base mode, sections 4.1, 5.1 and 5.2, for one message."""
    enc, ciphertext = sealed[:32], sealed[32:]
    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + private.public_key().public_bytes_raw()
    secret = expand(KEM, extract(KEM, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    schedule = b"\x00" + extract(HPKE, b"", b"psk_id_hash", b"") + extract(HPKE, b"", b"info_hash", info)
    prk = extract(HPKE, secret, b"secret", b"")
    key, nonce = expand(HPKE, prk, b"key", schedule, 32), expand(HPKE, prk, b"base_nonce", schedule, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)


def test_the_reference_opens_the_vectors_of_the_rfc_and_what_is_sealed_here():
    private = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    enc = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    ciphertext = bytes.fromhex(
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )
    key = X25519PrivateKey.from_private_bytes(private)
    opened = reference_open(enc + ciphertext, key, b"Ode on a Grecian Urn", b"Count-0")
    assert opened == b"Beauty is truth, truth beauty"
    sealed = seal(b"a find", key.public_key().public_bytes_raw(), b"info")
    assert reference_open(sealed, key, b"info", b"") == b"a find" == SealingKey(key).open(sealed, b"info")
    assert len(sealed) == len(b"a find") + OVERHEAD


def test_what_does_not_open():
    key, other = SealingKey.generate(), SealingKey.generate()
    sealed = seal(b"a find", key.public, b"info")
    assert b"find" not in sealed and sealed != seal(b"a find", key.public, b"info")
    for wrong in (sealed[:-1], sealed[1:], b"", bytes(len(sealed)), sealed[:40] + b"\0" + sealed[41:]):
        with pytest.raises(BadSeal):
            key.open(wrong, b"info")
    for opener, info in ((key, b"inf0"), (other, b"info")):
        with pytest.raises(BadSeal):
            opener.open(sealed, info)
    with pytest.raises(BadSeal):
        seal(b"a find", bytes(32), b"info")


def test_an_upload_opens_with_its_key_its_number_and_as_what_it_is_only():
    key = UploadKey(bytes(KEY))
    sealed = key.seal(b"a find", 7, b"kind")
    assert sealed == ChaCha20Poly1305(bytes(KEY)).encrypt(bytes(11) + b"\x07", b"a find", b"kind")
    assert UploadKey(bytes(KEY)).open(sealed, 7, b"kind") == b"a find" and len(sealed) == len(b"a find") + TAG
    tries = [(key, sealed, 8, b"kind"), (key, sealed, 7, b"kin"), (UploadKey(b"k" * KEY), sealed, 7, b"kind")]
    tries += [(key, wrong, 7, b"kind") for wrong in (b"", sealed[:-1], sealed[1:], bytes(len(sealed)))]
    for opener, data, number, kind in tries:
        with pytest.raises(BadSeal):
            opener.open(data, number, kind)


async def test_the_key_of_a_connection_is_sealed_and_signed_for_it(site):
    async with aiohttp.ClientSession() as http:
        (first, hello), (second, other) = await raw(site, http), await raw(site, http)
        mine, foreign = join_of(hello), join_of(other)
        swapped = dataclasses.replace(mine, sealed_key=join_of(hello, upload_key=b"k" * KEY).sealed_key)
        await first.send_bytes(messages.encode(swapped))
        assert await last_words(first) == "bad_signature"
        claim = messages.join_digest(other, A.public, mine.nonce, mine.sealed_key, b"w")
        resealed = dataclasses.replace(foreign, sealed_key=mine.sealed_key, signature=A.sign(claim))
        await second.send_bytes(messages.encode(resealed))
        assert await last_words(second) == "bad_seal"


def test_an_upload_does_not_travel_unsealed():
    with pytest.raises(ValueError):
        messages.TYPES.index(ShareUpload)
    with pytest.raises(BadEncoding):
        messages.decode(bytes([len(messages.TYPES)]), 1 << 20)


async def leased_upload(site, link) -> ShareUpload:
    await link.send(LeaseRequest(0, ()))
    grant = await answer(link, LeaseGrant)
    held = site.pool.leases.held[grant.lease].lease
    return ShareUpload(*make_share(site.pool.work, held, grant.genotypes[0], A, score_of(grant.genotypes[0])))


async def test_recorded_messages_are_refused_in_and_out_of_their_connection_and_after_a_restart(site):
    recorded: list[bytes] = []
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        send = link._socket.send_bytes

        async def record(data):
            recorded.append(data)
            await send(data)

        link._socket.send_bytes = record
        upload = await leased_upload(site, link)
        await link.upload(upload)
        await answer(link, ShareAccepted)
        sealed = recorded[-1]
        assert upload.model not in sealed and upload.signed.share.genotype not in sealed
        await send(sealed)
        assert (await answer(link, Problem)).code == "replayed"
        again = await link_to(site, http)
        await again._socket.send_bytes(sealed)
        assert (await answer(again, Problem)).code == "bad_seal"
        thief = await link_to(site, http, B)
        await thief._socket.send_bytes(sealed)
        assert (await answer(thief, Problem)).code == "bad_seal"
        socket, hello = await raw(site, http)
        join = join_of(hello)
        await socket.send_bytes(messages.encode(join))
        await site.stop()
        site.pool = new_pool(site.pool._storage._below.copy())
        await site.start(site.pool.work)
        socket, _ = await raw(site, http)
        await socket.send_bytes(messages.encode(join))
        assert await last_words(socket) == "bad_signature"
        later = await link_to(site, http)
        await later._socket.send_bytes(sealed)
        assert (await answer(later, Problem)).code == "bad_seal"
        # The owner itself may send its share again, as after a lost acknowledgement: it is not paid twice.
        await later.upload(upload)
        assert (await answer(later, ShareAccepted)).share == upload.signed.share.id
        assert site.pool.member(A.address).shares == 1


async def test_numbers_of_uploads_grow_but_may_have_gaps(site):
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        upload = await leased_upload(site, link)
        link._uploads = 7
        await link.upload(upload)
        assert (await answer(link, ShareAccepted)).share == upload.signed.share.id
        await link.send(SealedUpload(8, bytes(TAG)))
        assert (await answer(link, Problem)).code == "replayed"
        await link.send(SealedUpload(9, bytes(TAG)))
        assert (await answer(link, Problem)).code == "bad_seal"


async def test_who_sent_bad_shares_stays_out_for_a_while_over_a_restart_too(site):
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        for slot in range(5):
            await link.send(LeaseRequest(slot, ()))
            grant = await answer(link, LeaseGrant)
            held = site.pool.leases.held[grant.lease].lease
            wrong = make_share(site.pool.work, held, grant.genotypes[0], A, score_of(grant.genotypes[0]) + 1)
            await link.upload(ShareUpload(*wrong))
            assert (await answer(link, messages.ShareRejected)).code == "wrong_score"
        await site.stop()
        site.pool = new_pool(site.pool._storage._below.copy())
        await site.start(real_work())
        with pytest.raises(Exception, match="5 of your shares were wrong"):
            await link_to(site, http)
        assert await link_to(site, http, B)


async def test_a_host_cannot_open_connections_without_end(site):
    site.server._handshakes_per_host = messages.Limit(0, 0.001, 3)
    site.server._handshakes.clear()
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            await link_to(site, http)
        with pytest.raises(Exception, match="429"):
            await link_to(site, http)


async def test_a_member_that_does_not_read_is_cut_off(site, monkeypatch):
    monkeypatch.setattr("pool.session.SEND_SECONDS", 1.0)
    async with aiohttp.ClientSession() as http:
        link = await link_to(site, http)
        (session,) = site.server._sessions
        link._socket._conn.transport.pause_reading()

        async def shout():
            while not session._socket.closed:
                await session.send(Problem("noise", "x" * 500))

        async with asyncio.timeout(30):
            await asyncio.gather(shout(), return_exceptions=True)
            await until(lambda: not site.server._sessions)
