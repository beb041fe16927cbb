"""Proofs over a growing and reorganised chain: what is there and what is not, and nothing else."""

import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.chain import Chain
from chain.errors import BadEncoding
from chain.proofs import BadProof, ProvenEntry, StateProof, prove_state, proven
from chain.state import EmptyState, Overlay
from chain.store import Store
from chain.tree import update
from chain.types import Header
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, USERS, TestRules, transfer

keys = st.integers(0, 40).map(lambda i: b"k%d" % i)
values = st.integers(0, 3).map(lambda i: b"v%d" % i)


def header_with(root):
    return Header(1, 7, 9, bytes(32), bytes(32), root, bytes(32), bytes(32), bytes(64))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, values, max_size=40), st.lists(keys, min_size=1, max_size=8, unique=True), st.data())
def test_a_proof_shows_the_state_and_nothing_else(content, asked, data):
    nodes, state = Overlay(EmptyState()), Overlay(EmptyState())
    state.changes = dict(content)
    header = header_with(update(nodes, content))
    proof = StateProof.decode(prove_state(header, state, nodes, asked).encode())
    shown = proven(proof, header.id)
    assert {key: shown.get(key) for key in asked} == {key: content.get(key) for key in asked}
    with pytest.raises(BadProof, match="nothing"):
        shown.get(b"another key")
    at = data.draw(st.integers(0, len(asked) - 1))
    entry = proof.entries[at]
    lie = data.draw(st.sampled_from([(), (b"v0",), (b"v1",), (b"v9",)]))
    false_key = data.draw(keys)
    for forged in (dataclasses.replace(entry, value=lie), dataclasses.replace(entry, key=false_key)):
        true = content.get(forged.key) == (forged.value[0] if forged.value else None)
        changed = dataclasses.replace(proof, entries=(forged,))
        if true:
            continue  # it may be right: the nodes of one path hold the leaves of several keys
        with pytest.raises(BadProof):
            proven(changed, header.id)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, values, min_size=2, max_size=40), keys, st.data())
def test_a_flipped_bit_never_shows_another_state(content, key, data):
    nodes, state = Overlay(EmptyState()), Overlay(EmptyState())
    state.changes = dict(content)
    header = header_with(update(nodes, content))
    raw = bytearray(prove_state(header, state, nodes, [key]).encode())
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    try:
        flipped = StateProof.decode(bytes(raw))
        shown = proven(flipped, header.id)
    except (BadEncoding, BadProof):
        return
    (entry,) = flipped.entries  # it may be a true proof of another key, and nothing else
    assert entry.key != key, f"bit {at} does not matter"
    assert shown.get(entry.key) == content.get(entry.key)


@given(st.binary(max_size=300))
def test_hostile_bytes(data):
    with pytest.raises((BadEncoding, BadProof)):
        proven(StateProof.decode(data), bytes(32))


def test_a_key_twice_and_another_block():
    nodes, state = Overlay(EmptyState()), Overlay(EmptyState())
    state.changes = {b"a": b"1"}
    header = header_with(update(nodes, {b"a": b"1"}))
    proof = prove_state(header, state, nodes, [b"a", b"a"])
    with pytest.raises(BadProof, match="twice"):
        proven(proof, header.id)
    with pytest.raises(BadProof, match="of block"):
        proven(proof, hashlib.sha256().digest())
    entry = ProvenEntry(b"a", (), proof.entries[0].proof)
    with pytest.raises(BadProof, match="state root"):
        proven(StateProof(header, (entry,)), header.id)


def test_every_account_after_blocks_and_a_reorganisation(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        builder = Builder(chain.rules)

        def check():
            state = builder.states[chain.tip.id]
            asked = [*state, b"acct" + bytes(20), b"none"]
            for start in range(0, len(asked), 16):
                part = asked[start : start + 16]
                shown = proven(StateProof.decode(chain.prove(part).encode()), chain.tip.id)
                assert {key: shown.get(key) for key in part} == {key: state.get(key) for key in part}

        header = builder.genesis
        for slot in range(1, 4):
            block = builder.mint(header, slot, [transfer(USERS[0], slot - 1, bytes([slot]) * 20, 5)])
            chain.add_block(block)
            header = block.header
            check()
        header = builder.genesis
        for slot in range(4, 8):
            block = builder.mint(header, slot, [])
            chain.add_block(block)
            header = block.header
        assert chain.tip == header
        check()
