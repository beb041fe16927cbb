"""Chain selection: extend, side branches, reorgs, refusals, restart."""

import dataclasses

import pytest

from chain import accounts
from chain.chain import Chain, Status
from chain.errors import BadBlock, BadSignature, Ignore, Missing, TooDeep, UnknownParent
from chain.failures import StoreError
from chain.keys import PrivateKey
from chain.side import SidePool
from chain.store import Store
from chain.types import Block, CoinbaseBody, Kind, sign_transaction
from tests.chain.builder import Builder, remint
from tests.chain.rules import NETWORK, PARAMETERS, START, USERS, TestRules, mint, transfer

ALICE, BOB, CAROL, DAVE = USERS


def branch(builder, header, slots, *transactions):
    """Blocks on `header` in `slots`, the first with `transactions`."""
    blocks = []
    for slot in slots:
        blocks.append(builder.mint(header, slot, list(transactions) if not blocks else []))
        header = blocks[-1].header
    return blocks


def snapshot(chain):
    """Everything in the database."""
    return dict(chain.store.raw_iterate(b""))


def test_extend_and_reopen(tmp_path, rules):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        for i in range(1, 8):
            block = mint(chain, i, transfer(ALICE, i - 1, BOB.address, 5))
            assert len(block.transactions) == 2
            outcome = chain.add_block(block)
            assert outcome.status is Status.EXTENDED and outcome.connected == (block,)
            assert chain.add_block(block).status is Status.KNOWN
        assert chain.verify() == []
        tip, content = chain.tip, snapshot(chain)
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        assert chain.tip == tip and chain.height == 7 and chain.verify() == []
        assert snapshot(chain) == content
        assert chain.add_block(mint(chain, 9)).status is Status.EXTENDED


def test_a_draft_is_what_the_builder_mints(chain, builder):
    payment = transfer(ALICE, 0, BOB.address, 5)
    assert mint(chain, 3, payment).raw == builder.mint(chain.genesis, 3, [payment]).raw


def test_of_equal_length_the_first_seen_stays(chain, builder):
    ours, theirs = branch(builder, chain.genesis, (1, 2)), branch(builder, chain.genesis, (3, 4, 5))
    for block in ours:
        chain.add_block(block)
    assert chain.add_block(theirs[0]).status is Status.SIDE
    assert chain.add_block(theirs[1]).status is Status.SIDE
    assert chain.add_block(theirs[1]).status is Status.KNOWN
    assert chain.tip == ours[1].header
    outcome = chain.add_block(theirs[2])
    assert outcome.status is Status.REORG
    assert outcome.connected == tuple(theirs) and outcome.disconnected == (ours[1], ours[0])
    assert chain.tip == theirs[2].header and chain.verify() == []
    assert chain.has(ours[0].id) and chain.block(ours[1].id) == ours[1]


def test_reorg_leaves_what_the_branch_alone_would_leave(tmp_path, rules, builder):
    ours = branch(builder, builder.genesis, (1, 2, 3), transfer(ALICE, 0, DAVE.address, 77))
    theirs = branch(builder, builder.genesis, (4, 5, 6, 7), transfer(BOB, 0, CAROL.address, 88))
    contents = []
    for name, blocks in (("both", [*ours, *theirs]), ("alone", theirs)):
        with Store(tmp_path / name, NETWORK) as store:
            chain = Chain(store, rules)
            for block in blocks:
                chain.add_block(block)
            assert chain.verify() == []
            assert chain.transaction(ours[0].transactions[1].id) is None
            assert chain.transaction(theirs[0].transactions[1].id) == (theirs[0].transactions[1], 1, 1)
            contents.append(snapshot(chain))
    assert contents[0] == contents[1]


def test_reorg_and_back(chain, builder):
    ours, theirs = branch(builder, chain.genesis, (1, 2, 7, 8)), branch(builder, chain.genesis, (3, 4, 5))
    for block in (*ours[:2], *theirs):
        chain.add_block(block)
    assert chain.tip == theirs[-1].header
    assert chain.add_block(ours[2]).status is Status.SIDE
    assert chain.add_block(ours[3]).status is Status.REORG
    assert chain.tip == ours[3].header and chain.verify() == []


def test_a_deep_reorg_is_refused(chain, builder):
    ours = branch(builder, chain.genesis, (1, 2, 12, 22))
    for block in ours:
        chain.add_block(block)
    deep = branch(builder, ours[0].header, (3, 4, 5, 6))
    with pytest.raises(TooDeep):
        chain.add_block(deep[0])
    assert not chain.has(deep[0].id)
    shallow = branch(builder, ours[1].header, (3, 4, 5))
    assert [chain.add_block(block).status for block in shallow] == [Status.SIDE, Status.SIDE, Status.REORG]
    assert chain.verify() == []


def test_unknown_parent(chain, builder):
    blocks = branch(builder, chain.genesis, (1, 2))
    with pytest.raises(UnknownParent):
        chain.add_block(blocks[1])
    chain.add_block(blocks[0])
    assert chain.add_block(blocks[1]).status is Status.EXTENDED


def test_an_invalid_branch_leaves_the_old_tip(chain, builder):
    ours = branch(builder, chain.genesis, (1, 2))
    for block in ours:
        chain.add_block(block)
    before = snapshot(chain)
    theirs = branch(builder, chain.genesis, (3, 4))
    bad = builder.mint(theirs[1].header, 5, [], state_root=bytes(32))
    last = builder.mint(bad.header, 6, [])
    other = builder.mint(bad.header, 7, [])
    for block in theirs:
        chain.add_block(block)
    with pytest.raises(BadBlock) as caught:
        chain.add_block(bad)
    assert caught.value.code == "bad_state_root"
    for block, code in ((bad, "known_bad"), (last, "bad_ancestor"), (last, "known_bad"), (other, "bad_ancestor")):
        with pytest.raises(BadBlock) as caught:
            chain.add_block(block)
        assert caught.value.code == code
    assert chain.tip == ours[1].header and snapshot(chain) == before
    assert chain.add_block(builder.mint(theirs[1].header, 8, [])).status is Status.REORG


def test_a_bad_block_inside_a_branch_takes_its_descendants_along(chain, builder):
    for block in branch(builder, chain.genesis, (1, 2, 3)):
        chain.add_block(block)
    first = builder.mint(chain.genesis, 4, [], state_root=bytes(32))
    rest = branch(builder, first.header, (5, 6, 7))
    for block in (first, *rest[:2]):
        assert chain.add_block(block).status is Status.SIDE
    before = chain.tip
    with pytest.raises(BadBlock):
        chain.add_block(rest[2])
    assert chain.tip == before and not any(chain.has(block.id) for block in (first, *rest))
    for block in (first, *rest):
        with pytest.raises(BadBlock) as caught:
            chain.add_block(block)
        assert caught.value.code == "known_bad"


def test_a_body_that_does_not_belong_to_the_header_does_not_make_it_bad(chain, builder):
    good = builder.mint(chain.genesis, 1, [transfer(ALICE, 0, BOB.address, 5)])
    with pytest.raises(BadBlock):
        chain.add_block(Block(good.header, good.transactions[:1]))
    forged = dataclasses.replace(good.transactions[1], signature=bytes(64))
    with pytest.raises((BadBlock, BadSignature)):
        chain.add_block(Block(good.header, (good.transactions[0], forged)))
    assert chain.add_block(good).status is Status.EXTENDED


def publish(fact):
    body = CoinbaseBody(fact, ())
    return sign_transaction(CAROL, NETWORK, Kind.PUBLISH, 0, 500, body), body.encode()


def test_missing_then_retry(chain, rules, builder):
    transaction, fact = publish(7)
    rules.known.add(fact)
    block = builder.mint(chain.genesis, 1, [transaction])
    rules.known.clear()
    before = snapshot(chain)
    with pytest.raises(Missing) as caught:
        chain.add_block(block)
    assert caught.value.facts == (fact,) and snapshot(chain) == before and not chain.has(block.id)
    rules.known.add(fact)
    assert chain.add_block(block).status is Status.EXTENDED


def test_missing_inside_a_branch(chain, rules, builder):
    transaction, fact = publish(8)
    rules.known.add(fact)
    theirs = branch(builder, chain.genesis, (3, 4, 5), transaction)
    rules.known.clear()
    for block in (*branch(builder, chain.genesis, (1, 2)), *theirs[:2]):
        chain.add_block(block)
    with pytest.raises(Missing):
        chain.add_block(theirs[2])
    rules.known.add(fact)
    assert chain.add_block(theirs[2]).status is Status.REORG and chain.verify() == []


def test_links_are_checked_before_a_block_is_kept(chain, builder):
    for block in branch(builder, chain.genesis, (1, 2, 3)):
        chain.add_block(block)
    good = builder.mint(chain.genesis, 4, [])
    for changes, code in (({"height": 2}, "bad_height"), ({"slot": 0}, "bad_slot")):
        with pytest.raises(BadBlock) as caught:
            chain.add_block(remint(good, good.transactions, **changes))
        assert caught.value.code == code


def test_locator_and_after(chain, builder):
    blocks = branch(builder, chain.genesis, range(1, 61))
    for block in blocks:
        chain.add_block(block)
    locator = chain.locator()
    heights = [chain.header(block_id).height for block_id in locator]
    assert heights[:10] == list(range(60, 50, -1)) and heights[-1] == 0 and len(heights) < 20
    assert heights == sorted(set(heights), reverse=True)
    assert chain.after([blocks[9].id], 5, 1 << 20) == blocks[10:15]
    assert chain.after([bytes(32), blocks[57].id, blocks[3].id], 500, 1 << 20) == blocks[58:]
    assert chain.after([blocks[9].id], 5, 1) == blocks[10:11]
    assert chain.after([chain.tip.id], 5, 1 << 20) == [] == chain.after([bytes(32)], 5, 1 << 20)
    assert chain.after([chain.genesis.id], 0, 1 << 20) == []
    assert chain.id_at(60) == chain.tip.id and chain.id_at(61) is None and chain.block_at(61) is None
    assert chain.block_at(17) == blocks[16] and chain.id_at(-1) is None


def test_undo_is_pruned_far_below_the_limit_only(chain, builder):
    for block in branch(builder, chain.genesis, range(1, 101)):
        chain.add_block(block)
    lowest = chain.store.lowest_undo()
    assert 100 - 2 * PARAMETERS.max_rollback - 2 <= lowest <= 100 - PARAMETERS.max_rollback


def test_history(chain):
    chain.add_block(mint(chain, 1, transfer(ALICE, 0, BOB.address, 5), transfer(BOB, 0, CAROL.address, 6)))
    chain.add_block(mint(chain, 2, transfer(ALICE, 1, BOB.address, 7)))
    places = [(height, index) for _, height, index in chain.address_history(BOB.address, 10)]
    assert places == [(2, 1), (1, 2), (1, 1)]
    assert chain.address_history(BOB.address, 1)[0][0] == chain.block_at(2).transactions[1]
    assert chain.address_history(PrivateKey.generate().address, 10) == []


def test_a_draft_leaves_out_what_does_not_fit(tmp_path):
    rules = TestRules(parameters=dataclasses.replace(PARAMETERS, max_block_bytes=3000))
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        block = mint(chain, 1, *(transfer(ALICE, i, BOB.address, 1) for i in range(50)))
        assert 2000 < len(block.raw) <= 3000
        assert chain.add_block(block).status is Status.EXTENDED
        with pytest.raises(ValueError, match="slot"):
            mint(chain, 1)


def test_state_view(chain):
    chain.add_block(mint(chain, 1, transfer(ALICE, 0, BOB.address, 5, fee=300)))
    assert accounts.account(chain.state, ALICE.address) == accounts.Account(START - 305, 1)


def test_the_side_pool_is_bounded(tmp_path, rules, builder):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules, SidePool(most_blocks=4))
        for block in branch(builder, chain.genesis, (1, 2, 3)):
            chain.add_block(block)
        first = branch(builder, chain.genesis, (4, 5))
        for block in (*first, *(builder.mint(chain.genesis, slot, []) for slot in (6, 7, 8))):
            assert chain.add_block(block).status is Status.SIDE
        assert not chain.has(first[0].id) and not chain.has(first[1].id), "a block goes with its descendants"


def test_another_genesis(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        Chain(store, TestRules())
    with Store(tmp_path / "db", NETWORK) as store, pytest.raises(StoreError) as caught:
        Chain(store, TestRules(start=START + 1))
    assert caught.value.code == "other_network"


def test_refusals_of_what_is_merely_unusable_are_no_offence():
    assert issubclass(UnknownParent, Ignore) and issubclass(TooDeep, Ignore) and issubclass(Missing, Ignore)
    assert not issubclass(BadBlock, Ignore)


def test_two_builders_agree():
    one, two = Builder(TestRules()), Builder(TestRules())
    assert one.mint(one.genesis, 1, []).raw == two.mint(two.genesis, 1, []).raw
