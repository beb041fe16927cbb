"""The state machines: handshake, inventory, planner, progress, batches, downloads. Without I/O and without a clock."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.artifact import CHUNK, artifact_id, chunk_hashes
from chain.hashing import digest
from chain.keys import PrivateKey
from ponas_node.p2p import messages as m
from ponas_node.p2p.artifacts import Download
from ponas_node.p2p.errors import Misbehaviour, Refused
from ponas_node.p2p.handshake import Handshake, newcomer_stays
from ponas_node.p2p.inventory import Bounds, Inventory
from ponas_node.p2p.sync import Claim, Planner, Progress, check_batch
from tests.p2p.fakes import make_block, make_genesis

KEYS = [PrivateKey(digest("k", bytes([n]))) for n in range(3)]


def hello(key, **changes):
    base = m.Hello(
        m.VERSION, digest("net"), digest("gen"), key.public, digest("n", key.public), "a", "", 0, digest("t"), 0
    )
    return dataclasses.replace(base, **changes)


def sides():
    return Handshake(hello(KEYS[0]), KEYS[0], True), Handshake(hello(KEYS[1]), KEYS[1], False)


def test_handshake():
    dialler, listener = sides()
    first, second = dialler.on_hello(listener.local), listener.on_hello(dialler.local)
    assert dialler.on_auth(second) == listener.local and listener.on_auth(first) == dialler.local
    assert dialler.done and listener.done


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 1}, "other_version"),
        ({"network": bytes(32)}, "other_network"),
        ({"genesis": bytes(32)}, "other_genesis"),
        ({"key": KEYS[0].public}, "self"),
    ],
)
def test_who_is_refused(change, code):
    dialler, _ = sides()
    with pytest.raises(Refused) as caught:
        dialler.on_hello(dataclasses.replace(hello(KEYS[1]), **change))
    assert caught.value.code == code


def test_handshake_messages_out_of_order():
    dialler, listener = sides()
    with pytest.raises(Refused, match="out of order"):
        dialler.on_auth(m.Auth(bytes(64)))
    auth = listener.on_hello(dialler.local)
    dialler.on_hello(listener.local)
    with pytest.raises(Refused, match="second Hello"):
        dialler.on_hello(listener.local)
    dialler.on_auth(auth)
    with pytest.raises(Refused, match="out of order"):
        dialler.on_auth(auth)


def test_an_auth_is_good_for_one_handshake_and_one_role_only():
    dialler, listener = sides()
    dialler.on_hello(listener.local)
    for other in (
        Handshake(hello(KEYS[1], nonce=bytes(32)), KEYS[1], False),  # another nonce
        Handshake(hello(KEYS[1]), KEYS[1], True),  # the same role
        Handshake(hello(KEYS[1]), KEYS[2], False),  # another key
    ):
        with pytest.raises(Refused) as caught:
            dialler.on_auth(other.on_hello(dialler.local))
        assert caught.value.code == "bad_signature"


def test_both_ends_keep_the_same_of_two_connections():
    one, two = sorted(key.public for key in KEYS[:2])
    for dialled_by_one_first in (True, False):
        at_one = newcomer_stays(one, two, dialled_by_one_first, not dialled_by_one_first)
        at_two = newcomer_stays(two, one, not dialled_by_one_first, dialled_by_one_first)
        assert at_one == at_two == (not dialled_by_one_first)
    assert newcomer_stays(one, two, False, False) and not newcomer_stays(one, two, True, True)


def inventory(have=frozenset(), **bounds):
    made = Inventory(lambda id: id in have, Bounds(**{"timeout": 5.0, **bounds}))
    for peer in (b"a", b"b", b"c"):
        made.join(peer)
    return made


def ids(*numbers):
    return [bytes([number]) for number in numbers]


def test_what_is_here_is_not_asked_for():
    assert inventory(have={b"\x01"}).announced(b"a", ids(1, 2), 0) == {b"a": ids(2)}


def test_an_id_is_asked_for_once_and_then_elsewhere():
    made = inventory()
    assert made.announced(b"a", ids(1), 0) == {b"a": ids(1)}
    assert made.announced(b"a", ids(1), 0) == {} == made.announced(b"b", ids(1), 0)
    assert made.expire(4.9) == ({}, {})
    assert made.expire(5) == ({b"a": 1}, {b"b": ids(1)})
    assert made.expire(10) == ({b"b": 1}, {})
    assert made.announced(b"c", ids(1), 11) == {b"c": ids(1)}


def test_a_late_delivery_is_taken_and_frees_the_other():
    made = inventory(in_flight=1)
    made.announced(b"a", ids(1), 0)
    made.announced(b"b", ids(1, 2), 0)
    made.expire(5)
    assert made.delivered(b"a", ids(1)[0])
    made.judged(b"a", 6)
    assert not made.delivered(b"a", ids(1)[0]), "a second time it is unsolicited"
    assert made.expects(b"b") and made.delivered(b"b", ids(2)[0])


def test_not_found_and_leaving_move_to_the_next():
    made = inventory()
    for peer in (b"a", b"b", b"c"):
        made.announced(peer, ids(1), 0)
    assert made.not_found(b"a", ids(1, 9), 1) == (1, {b"b": ids(1)})
    assert made.leave(b"b", 2) == {b"c": ids(1)}
    assert made.leave(b"c", 3) == {} and not made._sources


def test_a_peer_is_asked_for_little_at_a_time_and_only_as_fast_as_it_is_judged():
    made = inventory(in_flight=2, backlog=3)
    assert made.announced(b"a", ids(*range(10)), 0) == {b"a": ids(0, 1)}
    assert made.delivered(b"a", ids(0)[0]) and made.announced(b"a", (), 0) == {}
    assert made.judged(b"a", 1) == {b"a": ids(2)}
    assert len(made._sources) == 2, "beyond the backlog nothing is kept"


def test_settled_ids_rest():
    made = inventory()
    made.settle(b"\x01", 10)
    assert made.announced(b"a", ids(1), 9) == {} and made.announced(b"a", ids(1), 10) == {b"a": ids(1)}


def test_known_ids_are_bounded_and_not_told_again():
    made = inventory(known=4)
    assert made.to_tell(b"a", ids(1, 2)) == ids(1, 2) and made.to_tell(b"a", ids(1, 2, 3)) == ids(3)
    made.to_tell(b"a", ids(*range(10, 20)))
    assert len(made._peers[b"a"].known) == 4


steps = st.lists(
    st.tuples(st.sampled_from("adnetlj"), st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 15)), max_size=120
)


@given(steps)
def test_the_inventory_never_loses_or_doubles_an_id(moves):
    """Every wanted id is asked for at, or in the backlog of, exactly one of its sources."""
    made = inventory(in_flight=2, backlog=6, sources=2)
    now = 0.0
    for move, peer, number in moves:
        now += 1
        id = bytes([number])
        if peer not in made._peers:
            made.join(peer)
        if move == "a":
            made.announced(peer, [id, bytes([number // 2])], now)
        elif move == "d":
            made.delivered(peer, id)
        elif move == "n":
            made.not_found(peer, [id], now)
        elif move == "e":
            made.expire(now)
        elif move == "l":
            made.leave(peer, now)
        elif move == "j":
            made.judged(peer, now)
        for wanted, sources in made._sources.items():
            live = [made._peers[source] for source in sources if source in made._peers]
            holders = [state for state in made._peers.values() if wanted in state.asked or wanted in state.backlog]
            assert len(holders) == 1 and holders[0] in live and len(sources) <= 2
        for state in made._peers.values():
            assert set(state.asked) | set(state.backlog) <= set(made._sources)


def claims(*heights):
    return [Claim(bytes([index]), height, False) for index, height in enumerate(heights)]


def test_planner_waits_a_little_for_gossip():
    planner = Planner(grace=1)
    assert planner.choose(0, 10, claims(10, 9)) is None
    assert planner.choose(1, 10, claims(11)) is None and planner.choose(1.9, 10, claims(11)) is None
    assert planner.choose(2, 10, claims(11)) == b"\x00"
    assert planner.choose(2.1, 11, claims(11)) is None and planner.choose(3, 11, claims(12)) is None


def test_planner_hurries_when_far_behind_or_told_so():
    assert Planner(60).choose(0, 10, claims(12, 26)) == b"\x01"
    planner = Planner(60)
    planner.hurry()
    assert planner.choose(0, 10, claims(11)) == b"\x00"


def test_planner_turns_to_another_after_a_failure():
    planner = Planner(0)
    assert planner.choose(0, 0, claims(99, 50)) == b"\x00"
    planner.failed(b"\x00", until=10)
    assert planner.choose(1, 0, claims(99, 50)) == b"\x01"
    assert planner.choose(11, 0, claims(99, 50)) == b"\x01", "the one without failures first"
    planner.failed(b"\x01", until=100)
    assert planner.choose(11, 0, claims(99, 50)) == b"\x00"
    planner.failed(b"\x00", until=100)
    assert planner.choose(12, 0, claims(99, 50)) is None


def test_a_known_tip_is_no_reason():
    assert Planner(0).choose(0, 0, [Claim(b"a", 50, True)]) is None


def test_a_peer_without_the_blocks_that_follow_is_not_asked():
    planner = Planner(0)
    assert planner.choose(0, 10, [Claim(b"a", 50, False, 12)]) is None
    assert planner.choose(0, 11, [Claim(b"a", 50, False, 12)]) == b"a"
    assert planner.choose(0, 10, [Claim(b"a", 50, False, 12), Claim(b"b", 40, False)]) == b"b"


def test_a_node_that_joins_looks_at_branches_that_are_not_longer_too():
    planner = Planner(0)
    assert planner.choose(0, 50, claims(40, 50)) is None
    assert planner.choose(0, 50, claims(40, 50), joining=True) == b"\x01"
    planner.compared(b"\x01", until=10)
    assert planner.choose(1, 50, claims(40, 50), joining=True) == b"\x00"
    planner.compared(b"\x00", until=10)
    assert planner.choose(2, 50, claims(40, 50), joining=True) is None
    assert planner.choose(3, 45, claims(40, 50), joining=True) == b"\x01", "a longer one is caught up from all the same"
    assert planner.choose(11, 50, claims(40, 50), joining=True) == b"\x01"
    assert planner.choose(11, 50, [Claim(b"a", 40, True)], joining=True) is None


def test_progress():
    progress = Progress()
    assert progress.eta(0, 10) is None and progress.eta(10, 10) == 0
    for second in range(61):
        progress.record(second, 5 * second)
    assert progress.speed() == 5 and progress.eta(300, 400) == 20


def test_batches():
    genesis = make_genesis()
    one = make_block(genesis.header, 1)
    two = make_block(one.header, 2)
    check_batch([genesis.id], -1, [one, two])
    for locator, above, blocks in [
        ([one.id], -1, [one]),
        ([genesis.id], 1, [one]),
        ([genesis.id], -1, [one, make_block(two.header, 3)]),
    ]:
        with pytest.raises(Misbehaviour):
            check_batch(locator, above, blocks)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_download(size):
    data = random.Random(size).randbytes(size)
    hashes = b"".join(chunk_hashes(data))
    download = Download(artifact_id(data), size)
    with pytest.raises(Misbehaviour):
        download.take_chunk(0, data[:CHUNK])
    for wrong_size, wrong in [
        (size, hashes[:-1]),
        (size, hashes + bytes(32)),
        (size + 1, hashes),
        (size, bytes(len(hashes))),
    ]:
        with pytest.raises(Misbehaviour):
            download.take_hashes(wrong_size, wrong)
    download.take_hashes(size, hashes)
    for index in download.missing():
        part = data[index * CHUNK : (index + 1) * CHUNK]
        for wrong in (part + b"x", bytes(len(part) + 1), b"\xff" * len(part) if part else b"x"):
            with pytest.raises(Misbehaviour):
                download.take_chunk(index, wrong)
        download.take_chunk(index, part)
    assert download.missing() == [] and download.content() == data
