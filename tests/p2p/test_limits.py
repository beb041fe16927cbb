"""Token buckets, scores, backoff, addresses and text: without I/O and without a clock."""

import random

import pytest

from chain.types import Header
from ponas_node.p2p import messages as m
from ponas_node.p2p.addresses import AddressBook
from ponas_node.p2p.backoff import Backoff
from ponas_node.p2p.limits import LIMITS, MAX_FRAME, Meter, TokenBucket
from ponas_node.p2p.scoring import FADE, LIMIT, Standing
from ponas_node.p2p.text import clean, endpoint, parse_endpoint, reachable_at


def test_every_type_has_a_limit_and_a_number():
    assert set(LIMITS) == set(m.TYPES.values()) and len(m.NUMBERS) == len(m.TYPES)
    assert all(limit.most < MAX_FRAME for limit in LIMITS.values())


def test_the_largest_messages_fit_their_limits():
    most = 2**64 - 1
    hello = m.Hello(2**32 - 1, *[bytes(32)] * 4, "x" * 64, "y" * 72, most, bytes(32), most)
    header = Header(255, most, most, *[bytes(32)] * 5, bytes(64))
    largest = [
        hello,
        m.Auth(bytes(64)),
        m.Goodbye("c" * 32, "r" * 256),
        m.Ping(2**32 - 1),
        m.Tip(2**64 - 1, bytes(32)),
        m.Announce(255, (bytes(32),) * m.MAX_IDS),
        m.GetBlocks(2**32 - 1, (bytes(32),) * m.MAX_LOCATOR),
        m.Blocks(2**32 - 1, (bytes(m.MAX_BATCH_BYTES // m.MAX_BATCH_BLOCKS),) * m.MAX_BATCH_BLOCKS),
        m.Blocks(2**32 - 1, (bytes(1 << 20),)),
        m.ArtifactInfo(2**32 - 1, 2**64 - 1, bytes(32 * m.MAX_CHUNKS)),
        m.GetChunk(2**32 - 1, bytes(32), 2**32 - 1),
        m.Chunk(2**32 - 1, True, bytes(65536)),
        m.Peers(2**32 - 1, ("a" * 72,) * m.MAX_ADDRESSES),
        m.Pong(2**32 - 1, most),
        m.GetHeaders(2**32 - 1, 2**32 - 1, (bytes(32),) * m.MAX_LOCATOR),
        m.Headers(2**32 - 1, (header,) * m.MAX_HEADERS),
    ]
    for message in largest:
        assert len(m.frame(message)) - 1 <= LIMITS[type(message)].most, type(message)
        assert type(message).decode(m.frame(message)[1:], LIMITS[type(message)].most) == message


def test_bucket():
    bucket = TokenBucket(rate=2, burst=4, now=100)
    assert [bucket.take(1, 100) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(1, 100) == 0.5
    assert bucket.take(1, 101) == 0
    assert bucket.take(4, 200) == 0, "never more than the burst"
    assert bucket.take(2, 200) == 1
    assert bucket.take(1, 150) == 1.5, "a clock that goes back gives nothing"


def test_meter_counts_types_apart():
    meter = Meter()
    for _ in range(int(LIMITS[m.Ping].burst)):
        assert meter.take(m.Ping, 0) == 0
    assert meter.take(m.Ping, 0) == 1
    assert meter.take(m.Tip, 0) == 0
    assert all(meter.take(m.Chunk, 0) == 0 for _ in range(10_000)), "what we asked for is not limited"
    assert sum(meter.take(None, 0) > 0 for _ in range(10)) == 5


def test_scores_fade_and_bans_end():
    standing = Standing(ban_seconds=60)
    assert not standing.add(b"k", 60, now=0)
    assert standing.score(b"k", 10) == 60 - 10 * FADE
    assert not standing.add(b"k", LIMIT - 60, now=10)
    assert standing.add(b"k", 10, now=10)
    standing.ban(b"k", "why", now=10)
    assert standing.banned(b"k", 20) == (50, "why") and standing.banned(b"other", 20) is None
    assert standing.banned(b"k", 71) is None and standing.score(b"k", 71) == 0


def test_scores_are_bounded():
    standing = Standing(60)
    for number in range(10_000):
        standing.add(number.to_bytes(4, "big"), 1, 0)
    assert len(standing._scores) == 4096


def test_backoff_doubles_with_jitter():
    seed = 3
    print(f"seed {seed}")
    backoff = Backoff(1, 10, random.Random(seed))
    waits = [backoff.wait() for _ in range(6)]
    for wait, most in zip(waits, [1, 2, 4, 8, 10, 10], strict=True):
        assert most / 2 <= wait <= most
    backoff.reset()
    assert backoff.wait() <= 1
    backoff.exhaust()
    assert backoff.wait() >= 5


def test_one_peer_cannot_fill_the_address_book():
    seed = 4
    print(f"seed {seed}")
    book = AddressBook(random.Random(seed))
    assert sum(book.add(f"10.0.0.1:{port}", b"liar") for port in range(1, 1000)) == 64
    for source in range(100):
        for port in range(1, 65):
            book.add(f"10.1.{source}.1:{port}", bytes([source]))
    assert len(book) == 1024


def test_addresses_that_fail_rest_longer_and_go():
    book = AddressBook(random.Random(5))
    book.add("a:1", b"s")
    assert book.pick(0, ()) == "a:1" and book.pick(0, ("a:1",)) is None
    book.failed("a:1", 0)
    assert book.pick(19, ()) is None and book.pick(20, ()) == "a:1" and book.sample(5) == []
    book.worked("a:1")
    assert book.sample(5) == ["a:1"]
    for _ in range(8):
        book.failed("a:1", 0)
    assert len(book) == 0 and book.add("b:1", b"s")


def test_text_from_peers_is_made_fit_for_a_log():
    assert clean("a\r\nb\x1b[0m\u202ec\x00é") == "a??b?[0m?c??"
    assert clean("x" * 500) == "x" * 256


BAD = ["", "a", "a:", ":1", "a:0", "a:65536", "a:１", "a b:1", "a/b:1", "x@y:1", "[::g]:1", "a:+1", "-a:1", "a:1:2"]


@pytest.mark.parametrize("text", [*BAD, "x" * 65 + ":1", "a\n:1"])
def test_bad_addresses(text):
    with pytest.raises(ValueError):
        parse_endpoint(text)


def test_good_addresses():
    assert parse_endpoint("node-1.example:9444") == ("node-1.example", 9444)
    assert parse_endpoint("[::1]:5") == ("::1", 5) and endpoint("::1", 5) == "[::1]:5"
    assert reachable_at(":7", "10.0.0.9") == "10.0.0.9:7"
    assert reachable_at(":7", "::1") == "[::1]:7"
    assert reachable_at("host:7", "10.0.0.9") == "host:7"
    assert reachable_at("host", "10.0.0.9") is None and reachable_at(":0", "10.0.0.9") is None
