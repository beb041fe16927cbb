"""Merkle trees of ordered leaves."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.hashing import EMPTY, digest
from chain.merkle import merkle_path, merkle_root, root_from_path

leaves = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


@given(leaves, st.data())
def test_every_path_leads_to_the_root(items, data):
    root = merkle_root(items)
    index = data.draw(st.integers(0, len(items) - 1))
    path = merkle_path(items, index)
    assert root_from_path(items[index], index, len(items), path) == root
    assert root_from_path(digest("other"), index, len(items), path) != root
    assert root_from_path(items[index], index, len(items), (*path, EMPTY)) is None
    if path:
        assert root_from_path(items[index], index, len(items), path[:-1]) is None
        assert root_from_path(items[index], index, len(items), (digest("x"), *path[1:])) != root
    assert root_from_path(items[index], len(items), len(items), path) is None
    assert root_from_path(items[index], -1, len(items), path) is None


@given(leaves)
def test_a_repeated_last_leaf_changes_the_root(items):
    assert merkle_root([*items, items[-1]]) != merkle_root(items)


def test_no_leaves():
    assert merkle_root([]) == EMPTY


def test_digest_is_length_prefixed_sha256():
    data = bytes([3]) + b"tag" + (1).to_bytes(8, "big") + b"a" + (2).to_bytes(8, "big") + b"bc"
    assert digest("tag", b"a", b"bc") == hashlib.sha256(data).digest()
    assert digest("tag", b"ab", b"c") != digest("tag", b"a", b"bc")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_leaf_order_matters(count):
    items = [bytes([i]) * 32 for i in range(count)]
    roots = {merkle_root(items[i:] + items[:i]) for i in range(count)}
    assert len(roots) == count
