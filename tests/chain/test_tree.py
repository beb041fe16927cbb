"""The state tree against its definition."""

from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import BadEncoding
from chain.hashing import EMPTY
from chain.state import EmptyState, Overlay
from chain.tree import Proof, prove, tree_root, update, verify_proof
from tests.chain.builder import naive_root

keys = st.integers(0, 60).map(lambda i: b"k%d" % i)
values = st.integers(0, 3).map(lambda i: b"v%d" % i)
batches = st.lists(st.dictionaries(keys, st.none() | values, max_size=25), max_size=8)


class Nodes(dict):
    """A node store that counts."""

    reads = 0

    def get(self, key):
        self.reads += 1
        return super().get(key)

    def write(self, changes):
        apply(self, changes)


def apply(state, batch):
    for key, value in batch.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


@settings(max_examples=200, deadline=None)
@given(batches)
def test_updates_give_the_root_of_the_content(sequence):
    nodes, state = Nodes(), {}
    for batch in sequence:
        before = dict(state)
        apply(state, batch)
        root = update(nodes, batch)
        assert root == naive_root(state) == tree_root(nodes)
        undo = {key: before.get(key) for key in batch}
        trial = Overlay(nodes)
        assert update(trial, undo) == naive_root(before)
    fresh = Nodes()
    update(fresh, state)
    assert nodes == fresh, "an update leaves exactly the nodes that a new tree has"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(keys, values, max_size=30), st.randoms(use_true_random=False))
def test_order_and_batching_do_not_matter(state, random):
    items = list(state.items())
    random.shuffle(items)
    nodes = Nodes()
    for key, value in items:
        update(nodes, {key: value})
    assert tree_root(nodes) == naive_root(state)
    random.shuffle(items)
    for key, _ in items:
        update(nodes, {key: None})
    assert not nodes and tree_root(nodes) == EMPTY


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(keys, values, max_size=30), keys, values)
def test_proofs(state, key, other):
    nodes = Nodes()
    root = update(nodes, state)
    proof = Proof.decode(prove(nodes, key).encode())
    for value in (None, b"v0", b"v1", b"v2", b"v3", other):
        assert verify_proof(root, key, value, proof) == (state.get(key) == value)
    for at, node in enumerate(proof.nodes):
        for byte in (0, 3, 4, len(node) - 1):
            changed = node[:byte] + bytes([node[byte] ^ 1]) + node[byte + 1 :]
            bad = Proof((*proof.nodes[:at], changed, *proof.nodes[at + 1 :]))
            assert not verify_proof(root, key, state.get(key), bad)
            assert not verify_proof(root, key, None, bad)
        cut = Proof((*proof.nodes[:at], node[:-1], *proof.nodes[at + 1 :]))
        assert not verify_proof(root, key, state.get(key), cut)
        assert not verify_proof(root, key, None, Proof(proof.nodes[:at]))
        assert not verify_proof(root, key, state.get(key), Proof(proof.nodes[:at]))
        assert not verify_proof(root, key, state.get(key), Proof((*proof.nodes, node)))
    if state:
        assert not verify_proof(root, key, None, Proof((bytes(4),)))


@given(st.binary(max_size=200))
def test_proof_bytes(data):
    try:
        proof = Proof.decode(data)
    except BadEncoding:
        return
    verify_proof(EMPTY, b"key", None, proof)


def test_each_touched_node_is_read_once():
    nodes = Nodes()
    update(nodes, {b"%d" % i: b"" for i in range(4096)})
    nodes.reads = 0
    update(nodes, {b"%d" % i: b"x" for i in range(4096)})
    assert nodes.reads == len(nodes)
    nodes.reads = 0
    update(nodes, {b"5": b"y"})
    assert nodes.reads < 8


def test_empty():
    assert update(Overlay(EmptyState()), {}) == EMPTY
    assert verify_proof(EMPTY, b"k", None, prove(Nodes(), b"k"))
