"""The tree over the ledger, against the tree of chain/ that is built from all leaves."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chain.hashing import EMPTY
from chain.merkle import merkle_root, root_from_path
from pool.errors import PoolFault
from pool.history import PREFIX, History, Peaks, consistent
from pool.storage import MemoryStorage

MOST = 70
ENTRIES = [b"entry %d" % number for number in range(MOST)]


def grown(count: int) -> tuple[History, MemoryStorage]:
    storage = MemoryStorage()
    history = History(storage, ENTRIES.__getitem__)
    for number in range(count):
        edge = history.edge(number)
        storage.write(edge.push(ENTRIES[number]))
        assert (edge.size, edge.root()) == (number + 1, merkle_root(ENTRIES[: number + 1]))
    return history, storage


HISTORY, _ = grown(MOST)
ROOTS = [merkle_root(ENTRIES[:size]) for size in range(MOST + 1)]


def test_roots_are_those_of_the_chains_tree():
    assert [HISTORY.root(size) for size in range(MOST + 1)] == ROOTS
    assert HISTORY.root(0) == EMPTY


def test_peaks_give_the_same_roots():
    peaks = Peaks()
    for size, root in enumerate(ROOTS):
        assert (peaks.size, peaks.root()) == (size, root)
        peaks.push(ENTRIES[size % MOST])


def test_every_inclusion_is_proven_in_few_hashes():
    for size in range(1, MOST + 1):
        for number in range(size):
            path = HISTORY.inclusion(number, size)
            assert len(path) <= (size - 1).bit_length()
            assert root_from_path(ENTRIES[number], number, size, path) == ROOTS[size]


def test_every_consistency_is_proven():
    for second in range(1, MOST + 1):
        for first in range(1, second + 1):
            path = HISTORY.consistency(first, second)
            assert len(path) <= second.bit_length() + 1
            assert consistent(first, ROOTS[first], second, ROOTS[second], path)


@given(st.data())
def test_no_other_proof_of_consistency_holds(data):
    second = data.draw(st.integers(2, MOST))
    first = data.draw(st.integers(1, second - 1))
    path = list(HISTORY.consistency(first, second))
    old, new = bytearray(ROOTS[first]), bytearray(ROOTS[second])
    what = data.draw(st.sampled_from(["old", "new", "node", "fewer", "more", "sizes"]))
    if what in ("old", "new"):
        (old if what == "old" else new)[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    elif what == "node":
        index = data.draw(st.integers(0, len(path) - 1))
        path[index] = bytes([path[index][0] ^ 1]) + path[index][1:]
    elif what == "fewer":
        del path[data.draw(st.integers(0, len(path) - 1))]
    elif what == "more":
        path.insert(data.draw(st.integers(0, len(path))), data.draw(st.binary(min_size=32, max_size=32)))
    else:
        other = data.draw(st.integers(-2, MOST + 2))
        assume(other != first)
        assume(ROOTS[other] != ROOTS[first] if 0 <= other <= MOST else True)
        first = other
    assert not consistent(first, bytes(old), second, bytes(new), path)


def test_a_missing_node_is_a_fault():
    history, storage = grown(9)
    for key, _ in list(storage.iterate(PREFIX)):
        storage.delete(key)
    with pytest.raises(PoolFault):
        history.root(9)
