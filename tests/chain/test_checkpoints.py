"""Blocks that the operator trusts."""

import pytest

from chain.chain import Chain, Status
from chain.checkpoints import BadCheckpoint, Checkpoint, Checkpoints, parse_checkpoint
from chain.errors import BadBlock, TooDeep
from chain.failures import StoreError
from chain.store import Store
from tests.chain.rules import NETWORK
from tests.chain.test_chain import branch


def trusting(store, rules, *blocks):
    """A chain with checkpoints at `blocks`."""
    return Chain(store, rules, checkpoints=Checkpoints(Checkpoint(each.header.height, each.id) for each in blocks))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        yield store


def test_another_block_at_the_height_is_condemned_with_what_follows(store, rules, builder):
    genesis = builder.genesis
    right = branch(builder, genesis, (1, 3, 5))
    wrong = branch(builder, genesis, (2, 4, 6, 8))
    chain = trusting(store, rules, right[1])
    for block in (right[0], wrong[0]):
        chain.add_block(block)
    for block, code in ((wrong[1], "not_the_checkpoint"), (wrong[1], "known_bad"), (wrong[2], "bad_ancestor")):
        with pytest.raises(BadBlock) as caught:
            chain.add_block(block)
        assert caught.value.code == code
    for block in right[1:]:
        assert chain.add_block(block).status is Status.EXTENDED
    assert chain.tip == right[2].header and chain.verify() == []


def test_extend_stops_before_a_block_that_is_not_the_checkpoint(store, rules, builder):
    right, wrong = branch(builder, builder.genesis, (1, 3)), branch(builder, builder.genesis, (1, 4, 5))
    chain = trusting(store, rules, right[1])
    with pytest.raises(BadBlock) as caught:
        chain.extend(wrong)
    assert caught.value.code == "not_the_checkpoint" and chain.tip == wrong[0].header


def test_once_reached_no_branch_leaves_before_it(store, rules, builder):
    right = branch(builder, builder.genesis, (1, 3, 5))
    other = branch(builder, right[0].header, (2,))
    chain = trusting(store, rules, right[2])
    for block in right:
        chain.add_block(block)
    with pytest.raises(TooDeep, match="checkpoint"):
        chain.add_block(other[0])
    assert chain.verify() == []


def test_a_database_that_contradicts_it_is_refused_in_clear_words(tmp_path, rules, builder):
    ours, theirs = branch(builder, builder.genesis, (1, 3)), branch(builder, builder.genesis, (2, 4))
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        for block in ours:
            chain.add_block(block)
    with Store(tmp_path / "db", NETWORK) as store:
        with pytest.raises(StoreError) as caught:
            trusting(store, rules, theirs[1])
        assert caught.value.code == "checkpoint"
        text = str(caught.value)
        assert ours[1].id.hex() in text and theirs[1].id.hex() in text and "move" in text and "--checkpoint" in text
        assert trusting(store, rules, ours[1]).height == 2
        with pytest.raises(StoreError):
            Chain(store, rules, checkpoints=Checkpoints([Checkpoint(0, bytes(32))]))


def test_what_an_operator_may_write():
    assert parse_checkpoint("12:" + "ab" * 32) == Checkpoint(12, b"\xab" * 32)
    for text in ("", "12", "12:", "12:abcd", "x:" + "00" * 32, "-1:" + "00" * 32, "1:" + "0g" * 32, "٣:" + "00" * 32):
        with pytest.raises(BadCheckpoint, match="HEIGHT:HASH"):
            parse_checkpoint(text)
    with pytest.raises(BadCheckpoint, match="two blocks are trusted at height 5"):
        Checkpoints([Checkpoint(5, bytes(32)), Checkpoint(5, b"\1" * 32)])
    several = Checkpoints([Checkpoint(9, b"\1" * 32), Checkpoint(5, bytes(32)), Checkpoint(5, bytes(32))])
    assert [each.height for each in several] == [5, 9]
    assert [several.reached(height) for height in (4, 5, 8, 9)] == [0, 5, 5, 9]
    assert several.ahead(4) == Checkpoint(5, bytes(32)) and several.ahead(9) is None
