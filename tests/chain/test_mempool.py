"""The pool of waiting transactions."""

import contextlib
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import accounts
from chain.chain import Chain
from chain.deadline import Deadline
from chain.errors import BadSignature, Ignore, Invalid, Missing
from chain.keys import PrivateKey
from chain.mempool import Mempool, MempoolLimits, Standing
from chain.rules import BlockContext
from chain.store import Store
from chain.types import MAX_OUTPUTS, CoinbaseBody, Kind, Output, TransferBody, coinbase_transaction, sign_transaction
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, SEATS, START, USERS, TestRules, mint, transfer

ALICE, BOB, CAROL, DAVE = USERS


class Node:
    """A chain with a pool on it."""

    def __init__(self, chain, limits=None):
        self.chain = chain
        self.pool = Mempool(chain.rules, limits)

    def context(self, slot=None):
        tip = self.chain.tip
        slot = tip.slot + 1 if slot is None else slot
        return BlockContext(tip.height + 1, slot, tip.id, SEATS[slot % 2])

    def add(self, *transactions, slot=None):
        for transaction in transactions:
            self.pool.add(transaction, self.chain.state, self.context(slot))

    def take(self, *blocks):
        for block in blocks:
            self.pool.on_tip(self.chain.add_block(block), self.chain.state, self.context())

    def refused(self, transaction, slot=None):
        with pytest.raises(Invalid) as caught:
            self.add(transaction, slot=slot)
        assert transaction.id not in self.pool or caught.value.code == "known"
        return caught.value.code


@pytest.fixture
def node(chain):
    return Node(chain)


def pay(sender, nonce, fee=400, amount=1, target=DAVE.address):
    return transfer(sender, nonce, target, amount, fee)


def pay_many(sender, nonce, fee=9000, count=MAX_OUTPUTS):
    return sign_transaction(
        sender, NETWORK, Kind.TRANSFER, nonce, fee, TransferBody((Output(DAVE.address, 1),) * count)
    )


def reveal(sender, nonce, mark=0):
    return sign_transaction(sender, NETWORK, Kind.REVEAL, nonce, 0, CoinbaseBody(mark, ()))


def publish(sender, nonce, mark):
    return sign_transaction(sender, NETWORK, Kind.PUBLISH, nonce, 500, CoinbaseBody(mark, ()))


def test_order_by_fee_rate_and_nonce(node):
    cheap, dear, middle = pay(ALICE, 0, 300), pay(BOB, 0, 900), pay(CAROL, 0, 600)
    follow = pay(ALICE, 1, 5000)
    node.add(cheap, dear, middle, follow)
    assert list(node.pool.best_first()) == [dear, middle, cheap, follow]
    assert len(node.pool) == 4 and node.pool.size == sum(len(t.raw) for t in (cheap, dear, middle, follow))


def test_protocol_transactions_go_first(node):
    dear, before, unveil = pay(BOB, 0, 9000), pay(CAROL, 0, 300), reveal(CAROL, 1)
    node.add(dear, before, unveil, slot=2)
    assert list(node.pool.best_first()) == [before, unveil, dear]


def test_refusals(node):
    first = pay(ALICE, 0)
    node.add(first)
    assert node.refused(first) == "known"
    assert node.refused(pay(ALICE, 0, 440)) == "nonce_taken"
    assert node.refused(pay(ALICE, 1 + 17)) == "nonce_too_high"
    assert node.refused(pay(ALICE, 1, 10)) == "fee_too_low"
    assert node.refused(pay(ALICE, 1, amount=START - 700)) == "insufficient_balance"
    assert node.refused(pay(PrivateKey(b"\7" * 32), 5)) == "insufficient_balance"
    assert node.refused(coinbase_transaction(1, ())) == "loose_coinbase"
    assert node.refused(reveal(BOB, 0), slot=1) == "wrong_phase"
    with pytest.raises(BadSignature):
        node.add(dataclasses.replace(pay(BOB, 0), fee=500))
    node.take(mint(node.chain, 1, first))
    assert node.refused(pay(ALICE, 0, 999)) == "nonce_too_low"
    assert len(node.pool) == 0


def test_a_gap_is_filled(node):
    later, last, first = pay(ALICE, 1), pay(ALICE, 2), pay(ALICE, 0)
    node.add(later, last)
    assert list(node.pool.best_first()) == [] and node.pool.standing(later.id) is Standing.PARKED
    assert node.pool.next_nonce(node.chain.state, ALICE.address) == 0
    node.add(first)
    assert list(node.pool.best_first()) == [first, later, last]
    assert node.pool.next_nonce(node.chain.state, ALICE.address) == 3


def test_pending_money_can_be_spent(node):
    poor = PrivateKey(b"\7" * 32)
    node.add(pay(ALICE, 0, amount=5000, target=poor.address), pay(poor, 0, 300))
    assert node.refused(pay(poor, 1, 300, amount=4500)) == "insufficient_balance"
    node.take(mint(node.chain, 1))
    assert len(node.pool) == 2, "order of arrival is kept when all are judged again"


def test_missing_facts(node):
    transaction = publish(ALICE, 0, 1)
    with pytest.raises(Missing) as caught:
        node.add(transaction)
    assert transaction.id not in node.pool
    node.chain.rules.known.update(caught.value.facts)
    node.add(transaction, pay(ALICE, 1))
    assert len(list(node.pool.best_first())) == 2
    node.chain.rules.known.clear()
    node.take(mint(node.chain, 1))
    assert list(node.pool.best_first()) == [] and node.pool.wanted() == {transaction.body} and len(node.pool) == 2
    node.chain.rules.known.add(transaction.body)
    node.take(mint(node.chain, 2))
    assert len(list(node.pool.best_first())) == 2 and node.pool.wanted() == set()


def test_a_phase_that_ends_drops_its_transactions(node):
    node.add(reveal(ALICE, 0), slot=2)
    node.take(mint(node.chain, 2))
    assert len(node.pool) == 0


def test_what_waits_for_a_lost_predecessor_expires(node):
    """Reveals of a phase that ended: the first is dropped, and the later nonces must not block the sender for ever."""
    node.add(reveal(ALICE, 0), reveal(ALICE, 1), reveal(ALICE, 2), slot=2)
    node.take(mint(node.chain, 2))
    assert len(node.pool) == 2
    for slot in range(3, 3 + node.pool.limits.idle_blocks):
        node.take(mint(node.chain, slot))
        assert len(node.pool) == 2
    node.take(mint(node.chain, slot + 1))
    assert len(node.pool) == 0
    node.add(pay(ALICE, 0), pay(ALICE, 1))
    assert len(list(node.pool.best_first())) == 2


def test_included_ones_leave_and_a_reorg_brings_them_back(node, builder):
    one, two, three = pay(ALICE, 0), pay(BOB, 0), pay(ALICE, 1)
    node.add(one, two, three)
    node.take(mint(node.chain, 1, one))
    assert {t.id for t in node.pool.transactions()} == {two.id, three.id}
    other = builder.mint(builder.genesis, 2, [two])
    node.take(other)
    node.take(builder.mint(other.header, 3, []))
    assert list(node.pool.best_first()) == [one, three]
    assert node.chain.tip.height == 2


def test_a_full_pool_drops_the_lowest_rate(chain):
    node = Node(chain, MempoolLimits(count=16))
    keys = [PrivateKey(bytes([40 + i]) * 32) for i in range(20)]
    for i, key in enumerate(keys):
        chain_block = mint(chain, 1 + i, transfer(ALICE, i, key.address, 50_000))
        chain.add_block(chain_block)
    for i, key in enumerate(keys[:16]):
        node.add(pay(key, 0, 1000 + i))
    assert node.refused(pay(keys[16], 0, 999)) == "pool_full"
    assert node.refused(pay(keys[16], 1, 9999)) == "pool_full", "what waits for another is worth nothing yet"
    node.add(pay(keys[17], 0, 5000))
    assert len(node.pool) <= 16 and keys[17].address in {t.address for t in node.pool.transactions()}
    assert keys[0].address not in {t.address for t in node.pool.transactions()}
    assert next(node.pool.best_first()).fee == 5000


def test_limit_per_sender(chain):
    node = Node(chain, MempoolLimits(per_sender=3))
    node.add(*(pay(ALICE, i) for i in range(3)))
    assert node.refused(pay(ALICE, 3)) == "sender_full"


def test_size_limit(chain):
    node = Node(chain, MempoolLimits(size=1000))
    node.add(*(pay(ALICE, i) for i in range(5)))
    assert node.pool.size <= 1000
    node.add(pay(BOB, 0, 5000))
    assert node.pool.size <= 1000 and next(node.pool.best_first()).fee == 5000


def test_a_replacement_pays_more(node):
    first = pay(ALICE, 0, 400)
    node.add(first, pay(BOB, 0, 600))
    size = len(first.raw)
    assert node.refused(pay(ALICE, 0, 440 + size - 2)) == "nonce_taken"
    better = pay(ALICE, 0, 440 + size + 2)
    node.add(better)
    assert first.id not in node.pool and list(node.pool.best_first())[1 if better.fee < 600 else 0] == better
    assert len(node.pool) == 2 and node.pool.ready == 2


def test_a_larger_replacement_pays_more_per_byte(node):
    node.add(pay(ALICE, 0, 1000))
    assert node.refused(pay_many(ALICE, 0, 4000, 60)) == "nonce_taken"


def test_what_follows_a_replacement_is_judged_again(node):
    """The replacement spends what the third transfer needed; the second still applies."""
    second, third = pay(ALICE, 1), pay(ALICE, 2, amount=START // 2)
    node.add(pay(ALICE, 0), second, third)
    replacement = pay(ALICE, 0, 2000, amount=START // 2)
    node.add(replacement)
    assert list(node.pool.best_first()) == [replacement, second] and len(node.pool) == 2
    node.add(pay(ALICE, 2))
    node.take(mint(node.chain, 1, *node.pool.best_first()))
    assert len(node.pool) == 0


def test_money_that_others_spend_already_is_not_replaced(node):
    poor = PrivateKey(b"\7" * 32)
    first, spends = pay(ALICE, 0, amount=5000, target=poor.address), pay(poor, 0, 300, amount=4000)
    node.add(first, spends)
    assert node.refused(pay(ALICE, 0, 2000)) == "nonce_taken"
    assert list(node.pool.best_first()) == [first, spends]
    node.add(pay(ALICE, 1))
    assert node.pool.next_nonce(node.chain.state, ALICE.address) == 2


def test_money_that_others_need_without_using_it_up_is_not_replaced(node):
    """A payment to oneself leaves what the replaced ones paid where it is, and does not apply without it."""
    first, paid = pay(ALICE, 0), pay(ALICE, 1, amount=5000, target=BOB.address)
    needs = pay(BOB, 0, 300, START, BOB.address)
    node.add(first, paid, needs)
    assert node.refused(pay(ALICE, 1, 2000)) == "nonce_taken"
    assert node.refused(pay(ALICE, 0, 2000)) == "nonce_taken", "the one behind it pays"
    assert list(node.pool.best_first()) == [first, paid, needs]


def test_two_that_need_each_other_do_not_stand_alone(node):
    """Bob and Carol send the same coins round: each applies with what the other pays, and none of them first."""
    first = pay(ALICE, 0, 1000, 5000, BOB.address)
    there, back = pay(BOB, 0, 300, START + 2000, CAROL.address), pay(CAROL, 0, 300, 2 * START, BOB.address)
    node.add(first, there, back)
    assert node.refused(pay(ALICE, 0, 3000)) == "nonce_taken"
    assert list(node.pool.best_first()) == [first, there, back]


def test_what_stands_alone_does_not_hinder_a_replacement(node):
    """What the payee pays is needed by another, but needs nothing that the replaced one paid."""
    poor = PrivateKey(b"\7" * 32)
    node.add(pay(BOB, 0, 1000, 5000, poor.address), pay(poor, 0, 300, 4000), pay(BOB, 2, 9000, START, BOB.address))
    node.add(pay(ALICE, 0, amount=5000, target=BOB.address))
    better = pay(ALICE, 0, 2000)
    node.add(better)
    assert next(node.pool.best_first()) == better and node.pool.ready == 3 and len(node.pool) == 4
    node.take(mint(node.chain, 1))
    assert node.pool.ready == 3


def test_what_moves_too_much_is_not_replaced(node):
    """Ten transfers of 256 outputs, of the sender or of somebody paid, are too many to be judged for one message."""
    node.add(pay(ALICE, 0, target=BOB.address), *(pay_many(key, nonce) for key in (BOB, CAROL) for nonce in range(10)))
    for refused in (pay(ALICE, 0, 2000), pay(CAROL, 0, 20_000)):
        assert node.refused(refused) == "nonce_taken"
    better = pay(CAROL, 8, 20_000)
    node.add(better)
    assert better.id in node.pool and node.pool.ready == len(node.pool) == 21


def test_a_replacement_arrives_last(node):
    """It spends what came after the one that it replaces; so does the one behind it, which came before."""
    node.add(pay(ALICE, 0), pay(ALICE, 1), pay(BOB, 0, 300, 5000, ALICE.address))
    better = pay(ALICE, 0, 2000, START - 1000)
    node.add(better)
    assert node.pool.ready == 3
    order = [(t.address, t.nonce) for t in node.pool.transactions()]
    assert order == [(ALICE.address, 1), (BOB.address, 0), (ALICE.address, 0)]
    node.take(mint(node.chain, 1))
    assert node.pool.ready == 3 and better.id in node.pool, "judged again in order of arrival"


def test_a_ready_protocol_transaction_is_not_replaced(node):
    node.add(reveal(ALICE, 0), slot=2)
    assert node.refused(pay(ALICE, 0, 9000), slot=2) == "nonce_taken"


def test_a_parked_one_is_replaced(node):
    later = pay(ALICE, 1, 2000)
    node.add(pay(ALICE, 1), later)
    assert len(node.pool) == 1 and node.pool.standing(later.id) is Standing.PARKED
    node.add(pay(ALICE, 0))
    assert list(node.pool.best_first())[1] == later


def test_what_is_too_old_leaves_with_what_follows(chain):
    node = Node(chain, MempoolLimits(age_blocks=3))
    node.add(pay(ALICE, 0), pay(BOB, 0))
    node.take(mint(chain, 1))
    node.add(pay(ALICE, 1), pay(CAROL, 0))
    for slot in (2, 3):
        node.take(mint(chain, slot))
        assert len(node.pool) == 4
    node.take(mint(chain, 4))
    assert [t.address for t in node.pool.best_first()] == [CAROL.address]
    node.add(pay(ALICE, 0))
    assert node.pool.ready == 2


def test_a_reorg_gives_what_it_brings_back_its_time_anew(chain, builder):
    node = Node(chain, MempoolLimits(age_blocks=2))
    one = pay(ALICE, 0)
    node.add(one)
    node.take(mint(chain, 1, one))
    header = builder.genesis
    for slot in (2, 3, 4):
        block = builder.mint(header, slot, [])
        header = block.header
        node.take(block)
    assert list(node.pool.best_first()) == [one]


def test_room_is_kept_for_protocol_transactions(chain):
    node = Node(chain, MempoolLimits(count=16))
    node.add(*(pay(ALICE, i) for i in range(8)), *(pay(BOB, i) for i in range(6)), slot=2)
    assert len(node.pool) == 14
    assert node.refused(pay(BOB, 6), slot=2) == "pool_full"
    node.add(reveal(CAROL, 0), reveal(CAROL, 1), slot=2)
    assert len(node.pool) == 16
    assert node.refused(pay(BOB, 6), slot=2) == "pool_full"
    node.add(reveal(CAROL, 2), slot=2)
    reveals = [t for t in node.pool.transactions() if t.kind == Kind.REVEAL]
    assert len(node.pool) <= 15 and len(reveals) == 3, "a protocol transaction drives out others"


def test_protocol_transactions_that_a_slot_parks_lose_their_room(chain):
    """The first reveal does not fit the new slot; the others wait for it, in room that is not theirs then."""
    node = Node(chain, MempoolLimits(count=16))
    node.add(*(pay(ALICE, i) for i in range(14)), *(reveal(CAROL, i) for i in range(2)), slot=2)
    assert len(node.pool) == 16
    assert node.refused(pay(BOB, 0, 10), slot=3) == "fee_too_low" and len(node.pool) == 16
    assert node.refused(pay(ALICE, 0, 500), slot=3) == "nonce_taken"
    assert len(node.pool) <= 14 and node.pool.ready == len(node.pool)


def test_a_block_is_chosen_within_its_time(node):
    ticks = iter(range(100))
    node.add(*(pay(ALICE, i) for i in range(9)))
    deadline = Deadline(lambda: float(next(ticks)), 4.0)
    _, chosen = node.chain.draft(1, SEATS[1], bytes(32), node.pool.best_first(), deadline)
    assert chosen[1:] == tuple(list(node.pool.best_first())[:4])


def test_every_refusal_of_what_does_not_fit_now_is_mild(node):
    for transaction in (pay(ALICE, 99), pay(ALICE, 0, amount=START)):
        with pytest.raises(Ignore):
            node.add(transaction)


actions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3), st.integers(250, 2000), st.booleans()),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(actions)
def test_whatever_is_offered_fits_into_the_next_block(tmp_path_factory, plan):
    with Store(tmp_path_factory.mktemp("pool") / "db", NETWORK) as store:
        rules = TestRules()
        node, builder = Node(Chain(store, rules), MempoolLimits(count=8, nonce_gap=3, per_sender=4)), Builder(rules)
        for user, nonce, target, fee, block in plan:
            with contextlib.suppress(Invalid):
                node.add(pay(USERS[user], nonce, fee, START // 3, USERS[target].address))
            if block:
                parent = node.chain.tip
                node.take(builder.mint(parent, parent.slot + 1, list(node.pool.best_first())[: fee % 4]))
            offered = list(node.pool.best_first())
            state = node.chain.state
            nonces = {key.address: accounts.account(state, key.address).nonce for key in USERS}
            for transaction in offered:
                assert transaction.nonce == nonces[transaction.address]
                nonces[transaction.address] += 1
            assert len(node.pool) <= 8 and node.pool.size == sum(len(t.raw) for t in node.pool.transactions())
            slot = node.chain.tip.slot + 1
            # Some may wait for money that others send, so they are offered more than once.
            _, included = node.chain.draft(slot, SEATS[slot % 2], bytes(32), offered * 8)
            parked = sum(node.pool.standing(t.id) is not Standing.READY for t in node.pool.transactions())
            assert len(included) - 1 == len(node.pool) - parked == len(offered)
