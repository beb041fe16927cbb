"""Branches that fork deep: compared by density, executed before the best chain is given up, rewound in parts."""

import pytest

from chain import chain as chain_module
from chain.chain import Chain, Status
from chain.density import Trial, blocks_in_window, check_open
from chain.errors import BadBlock, BadSignature, Missing, TooDeep
from chain.store import Store
from chain.types import Block, CoinbaseBody, Kind, sign_transaction
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, PARAMETERS, USERS, TestRules, transfer
from tests.chain.test_chain import branch, snapshot

WINDOW = 20
ROLLBACK = PARAMETERS.max_rollback


@pytest.fixture
def joiner(chain, builder):
    """A chain that joins from genesis, with a sparse branch that forks at height 2 and goes on for long."""
    chain.horizon = 0
    trunk = branch(builder, chain.genesis, (1, 2), transfer(USERS[0], 0, USERS[1].address, 5))
    sparse = branch(builder, trunk[1].header, range(7, 200, 5), transfer(USERS[1], 0, USERS[2].address, 7))
    for block in trunk + sparse:
        chain.add_block(block)
    return chain, trunk, sparse


def run(trial):
    """Execute what has not been executed yet."""
    while trial.step():
        pass


def test_the_denser_branch_is_followed_though_it_is_shorter(tmp_path, joiner, builder, monkeypatch):
    monkeypatch.setattr(chain_module, "_UNDONE_AT_ONCE", 7)
    chain, trunk, sparse = joiner
    dense = branch(builder, trunk[1].header, range(3, 9), transfer(USERS[2], 0, USERS[3].address, 9))
    assert blocks_in_window(chain, trunk[1].header, WINDOW) == 4
    trial = Trial(chain, dense)
    run(trial)
    assert chain.tip == sparse[-1].header and not trial.stale
    outcome = trial.adopt(WINDOW)
    assert outcome.status is Status.REORG and outcome.connected == tuple(dense)
    assert chain.tip == dense[-1].header and trial.stale and chain.verify() == []
    with Store(tmp_path / "alone", NETWORK) as store:
        alone = Chain(store, TestRules())
        alone.horizon = 0
        for block in trunk + dense:
            alone.add_block(block)
        assert snapshot(alone) == snapshot(chain)
    # The branch that was left forks within the limit now, and is longer; still length does not decide about it.
    with pytest.raises(TooDeep):
        chain.add_block(sparse[0])
    on = branch(builder, dense[-1].header, range(9, 60))
    for block in on:
        chain.add_block(block)
    assert chain.tip == on[-1].header and chain.verify() == []


def test_of_equal_density_the_one_it_has_stays(joiner, builder):
    chain, trunk, sparse = joiner
    equal = branch(builder, trunk[1].header, (8, 9, 10, 11, *range(23, 90)))
    trial = Trial(chain, equal)
    run(trial)
    with pytest.raises(TooDeep, match="4 blocks in the 20 slots after the fork, ours 4"):
        trial.adopt(WINDOW)
    assert chain.tip == sparse[-1].header


def test_a_fake_branch_is_found_out_before_ours_is_given_up(joiner, builder):
    chain, trunk, sparse = joiner
    before = snapshot(chain)
    honest = branch(builder, trunk[1].header, (3, 4, 5))
    stranger = Block(honest[2].header.signed(USERS[0], NETWORK), honest[2].transactions)
    with pytest.raises(BadSignature):
        run(Trial(chain, [*honest[:2], stranger]))
    last = builder.mint(honest[1].header, 5, [], seat=bytes(32))  # a seat that the slot does not belong to
    fake = [*honest[:2], last, *branch(builder, last.header, range(6, 20))]
    trial = Trial(chain, fake)
    with pytest.raises(BadBlock) as caught:
        run(trial)
    assert caught.value.code == "not_leader"
    assert snapshot(chain) == before and chain.tip == sparse[-1].header
    with pytest.raises(BadBlock) as caught:
        chain.add_block(last)
    assert caught.value.code == "known_bad"
    with pytest.raises(BadBlock):
        Trial(chain, [honest[0], honest[2]])


def test_a_branch_that_lacks_facts_goes_on_where_it_stopped(joiner, rules, builder):
    chain, trunk, _ = joiner
    body = CoinbaseBody(3, ())
    rules.known.add(body.encode())
    publish = sign_transaction(USERS[3], NETWORK, Kind.PUBLISH, 0, 900, body)
    first = branch(builder, trunk[1].header, range(3, 6))
    dense = first + branch(builder, first[-1].header, range(6, 12), publish)
    rules.known.clear()
    trial = Trial(chain, dense)
    for _ in range(2):
        with pytest.raises(Missing) as caught:
            run(trial)
        assert caught.value.facts == (body.encode(),)
    rules.known.add(body.encode())
    run(trial)
    assert trial.adopt(WINDOW).connected == tuple(dense) and chain.verify() == []


def test_what_was_final_when_the_node_left_stays(joiner, builder):
    chain, trunk, _ = joiner
    dense = branch(builder, trunk[1].header, range(3, 12))
    chain.horizon = trunk[1].header.slot + ROLLBACK + 1
    with pytest.raises(TooDeep, match="--checkpoint"):
        Trial(chain, dense)
    chain.horizon = trunk[1].header.slot + ROLLBACK
    run(Trial(chain, dense))
    chain.horizon = None
    with pytest.raises(TooDeep, match="has followed all along"):
        check_open(chain, trunk[1].header)


def test_undo_records_stay_while_a_node_joins_and_go_when_it_is_live(tmp_path, monkeypatch):
    monkeypatch.setattr(chain_module, "_PRUNED_AT_ONCE", 3)
    builder, blocks = Builder(TestRules()), []
    blocks = branch(builder, builder.genesis, range(1, 150))
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        chain.horizon = 0
        for block in blocks[:-40]:
            chain.add_block(block)
        assert store.lowest_undo() == 0
        chain.horizon = None
        seen = []
        for block in blocks[-40:]:
            chain.add_block(block)
            seen.append(store.lowest_undo())
        assert seen[:3] == [3, 6, 9] and seen[-1] == 149 - 2 * ROLLBACK


def test_a_rewind_without_undo_records_changes_nothing(chain, builder):
    blocks = branch(builder, chain.genesis, range(1, 100))
    for block in blocks:
        chain.add_block(block)
    with pytest.raises(TooDeep, match="can no longer be undone"):
        chain.rewind(blocks[10].header)
    assert chain.tip == blocks[-1].header
    chain.rewind(blocks[80].header)
    assert chain.tip == blocks[80].header and chain.verify() == []
    assert chain.add_block(blocks[81]).status is Status.EXTENDED


def test_a_kill_while_a_branch_is_taken_back_leaves_a_block_between(tmp_path, builder, rules, monkeypatch):
    monkeypatch.setattr(chain_module, "_UNDONE_AT_ONCE", 7)
    blocks = branch(builder, builder.genesis, range(1, 40))
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        for block in blocks:
            chain.add_block(block)
        commit, writes = store.commit, []

        def fail_at_the_third(change):
            if len(writes) == 2:
                raise InterruptedError
            writes.append(change)
            commit(change)

        monkeypatch.setattr(store, "commit", fail_at_the_third)
        with pytest.raises(InterruptedError):
            chain.rewind(blocks[2].header)
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, rules)
        assert chain.tip == blocks[-15].header and chain.verify() == []
        assert chain.add_block(blocks[-14]).status is Status.EXTENDED
