"""Proofs from whoever: what a changed proof shows is so, or it is refused."""

import pytest

from chain import accounts
from chain.chain import Chain
from chain.errors import BadEncoding
from chain.hashing import digest
from chain.merkle import merkle_path, merkle_root, root_from_path
from chain.proofs import MAX_PROOF, BadProof, StateProof, proven
from chain.store import Store
from tests.chain.rules import NETWORK, USERS, TestRules, mint, transfer
from tests.fuzz.campaign import campaign
from tests.fuzz.inputs import drawer, mutated


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("proofs") / "db", NETWORK, durable=False) as store:
        chain = Chain(store, TestRules())
        for number in range(60):
            target = digest("test/target", bytes([number]))[:20]
            chain.add_block(mint(chain, number + 1, transfer(USERS[0], number, target, 7)))
        yield chain


def fuzz_state_proofs(chain, inputs):
    state = dict(chain.store.state.items())
    present = list(state)
    counts = {"true": 0, "refused": 0}

    def trial(dice, tried):
        keys = [*dice.sample(present, dice.randrange(4)), accounts.ACCOUNT + dice.randbytes(20)]
        dice.shuffle(keys)
        proof = chain.prove(keys)
        shown = proven(StateProof.decode(proof.encode(), MAX_PROOF), chain.tip.id)
        assert all(shown.get(key) == state.get(key) for key in keys)
        data = _forged(dice, proof, present) if dice.random() < 0.5 else mutated(dice, proof.encode())
        tried[:] = [data]
        try:
            forged = StateProof.decode(data, MAX_PROOF)
            shown = proven(forged, chain.tip.id)
        except (BadEncoding, BadProof):
            counts["refused"] += 1
            return
        assert forged.encode() == data
        assert all(shown.get(entry.key) == state.get(entry.key) for entry in forged.entries)
        counts["true"] += 1

    campaign("state proofs", inputs, trial)
    print(f"state proofs: {counts['refused']} changed ones refused, {counts['true']} that show what is so")
    assert counts["refused"] > inputs // 2 and counts["true"]


def _forged(dice, proof, present):
    """Well-formed, with parts that belong to something else."""
    fields = {name: getattr(proof.entries[0], name) for name in ("key", "value", "proof")}
    other = dice.choice(proof.entries)
    how = dice.randrange(5)
    if how == 0:
        fields["key"] = dice.choice(present)
    elif how == 1:
        fields["value"] = dice.choice(((), (b"",), (dice.randbytes(9),), other.value))
    elif how == 2:
        fields["proof"] = other.proof
    elif how == 3:
        fields["proof"] = drawer(type(other.proof))(dice)
    else:
        fields["key"], fields["value"] = dice.choice(present), ()
    entry = type(other)(**fields)
    return StateProof(proof.header, (entry, *proof.entries[1:])).encode()


def fuzz_paths(inputs):
    """Paths in the tree of a commit: only the leaf that is there leads to the root."""

    def trial(dice, tried):
        leaves = [dice.randbytes(32) for _ in range(dice.randrange(1, 20))]
        index = dice.randrange(len(leaves))
        path = list(merkle_path(leaves, index))
        root = merkle_root(leaves)
        assert root_from_path(leaves[index], index, len(leaves), tuple(path)) == root
        leaf, count = leaves[index], len(leaves)
        how = dice.randrange(5)
        if how == 0:
            leaf = dice.randbytes(32)
        elif how == 1 and path:
            path[dice.randrange(len(path))] = dice.randbytes(32)
        elif how == 2:
            path = path[1:] if dice.random() < 0.5 else [*path, dice.randbytes(32)]
        elif how == 3:
            index = dice.choice((-1, count, 2**40, dice.randrange(count)))
        else:
            path = [dice.randbytes(32)] * dice.choice((32, 300))
        tried[:] = [leaves, leaf, index, path]
        if root_from_path(leaf, index, count, tuple(path)) == root:
            assert 0 <= index < count and leaves[index] == leaf

    campaign("paths", inputs, trial)


def test_state_proofs(chain):
    fuzz_state_proofs(chain, 2_000)


def test_paths():
    fuzz_paths(2_000)


@pytest.mark.long
def test_many_proofs(chain):
    fuzz_state_proofs(chain, 100_000)
    fuzz_paths(100_000)
