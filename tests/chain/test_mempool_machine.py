"""A stateful machine: the pool against a plain one that judges everything from the beginning at every question."""

import dataclasses
import itertools
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chain import accounts
from chain.chain import Chain
from chain.errors import Invalid
from chain.ledger import apply_transaction, begin
from chain.mempool import Mempool, MempoolLimits, Standing
from chain.rules import BlockContext
from chain.state import Overlay
from chain.store import Store
from chain.types import CoinbaseBody, Kind, sign_transaction
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, PARAMETERS, SEATS, START, USERS, TestRules, transfer

LIMITS = MempoolLimits(count=16, size=2600, per_sender=5, nonce_gap=3, idle_blocks=3, age_blocks=6)
IDLE = LIMITS.idle_blocks
ORDINARY_COUNT, ORDINARY_SIZE = LIMITS.count * 7 // 8, LIMITS.size - LIMITS.size // 8


class Plain:
    """Transactions in a list, oldest first. Slow, and without any state that could go stale."""

    def __init__(self, rules):
        self.rules = rules
        self.held = []
        self.since = {}  # height of the next block when a transaction came
        self.idle = {}  # and when it was first seen not ready at a tip

    def on_tip(self, outcome, state, context):
        """What should be ready, and what should be here, as ids."""
        included = {t.id for block in outcome.connected for t in block.transactions}
        blocks = reversed(outcome.disconnected)
        back = [t for block in blocks for t in block.transactions[1:] if t.id not in included]
        places = {(t.address, t.nonce) for t in back}
        kept = [t for t in self.held if t.id not in included and (t.address, t.nonce) not in places]
        self.since.update({t.id: context.height for t in back})
        for transaction in back:
            self.idle.pop(transaction.id, None)
        old = [t for t in kept if context.height - self.since[t.id] > LIMITS.age_blocks]
        self.held = [*back, *kept]
        self.held = [t for t in self.held if not any(t.address == o.address and t.nonce >= o.nonce for o in old)]
        ready, dead = self.judge(state, context)
        left = []
        for transaction in self.held:
            if transaction.id in ready:
                self.idle.pop(transaction.id, None)
            elif transaction.id in dead or context.height - self.idle.setdefault(transaction.id, context.height) > IDLE:
                continue
            left.append(transaction)
        self.held = left
        return ready, self.is_full(ready)

    def is_full(self, ready, dead=()):
        """Whether some of what is held, and not dead, must go."""
        held = [t for t in self.held if t.id not in dead]
        ordinary = [t for t in held if t.kind != Kind.REVEAL or t.id not in ready]
        sizes = [len(t.raw) for t in held], [len(t.raw) for t in ordinary]
        return any(
            len(found) > count or sum(found) > size
            for found, count, size in zip(
                sizes, (LIMITS.count, ORDINARY_COUNT), (LIMITS.size, ORDINARY_SIZE), strict=True
            )
        )

    def judge(self, state, context, without=()):
        """Ids that apply, one after another, and ids that never will; the rest waits for an earlier nonce."""
        scratch, ready, dead, parked = Overlay(state), set(), set(), []
        begin(self.rules, scratch, context)

        def attempt(transaction):
            try:
                apply_transaction(self.rules, scratch, context, transaction, 1)
            except Invalid:
                dead.add(transaction.id)
                return False
            ready.add(transaction.id)
            return True

        for transaction in self.held:
            if transaction in without:
                continue
            nonce = accounts.account(scratch, transaction.address).nonce
            if transaction.nonce < nonce:
                dead.add(transaction.id)
            elif transaction.nonce > nonce:
                parked.append(transaction)
            else:
                while transaction is not None and attempt(transaction):
                    place = (transaction.address, transaction.nonce + 1)
                    transaction = next((other for other in parked if (other.address, other.nonce) == place), None)
        return ready, dead

    def order(self, ready):
        """Best first, by looking through all heads for every place."""

        def key(transaction, queue):
            later = [other for other in queue if other.nonce >= transaction.nonce]
            first = any(other.kind == Kind.REVEAL for other in later)
            return (not first, -(transaction.fee * (1 << 20) // len(transaction.raw)), self.held.index(transaction))

        left = [transaction for transaction in self.held if transaction.id in ready]
        found = []
        while left:
            heads = {}
            for transaction in sorted(left, key=lambda each: each.nonce, reverse=True):
                heads[transaction.address] = transaction
            queues = {a: [each for each in left if each.address == a] for a in heads}
            best = min(heads.values(), key=lambda each: key(each, queues[each.address]))
            left.remove(best)
            found.append(best)
        return found


class PoolMachine(RuleBasedStateMachine):
    """Random transactions, blocks, forks and slots."""

    @initialize()
    def start(self):
        self.directory = tempfile.mkdtemp(prefix="ponas-pool-")
        self.rules = TestRules(parameters=dataclasses.replace(PARAMETERS, max_rollback=100))
        self.builder = Builder(self.rules)
        self.store = Store(self.directory + "/db", NETWORK)
        self.chain = Chain(self.store, self.rules)
        self.pool, self.plain, self.slot = Mempool(self.rules, LIMITS), Plain(self.rules), 1

    def context(self):
        tip = self.chain.tip
        self.slot = max(self.slot, tip.slot + 1)
        return BlockContext(tip.height + 1, self.slot, tip.id, SEATS[self.slot % 2])

    def offer(self, transaction):
        """Add; compare with the plain pool where there is neither eviction nor replacement.

        What a new slot has made inapplicable is no longer there to be replaced, and what it has parked may be too much.
        """
        plain, context = self.plain, self.context()
        place = transaction.address, transaction.nonce
        ready, dead = plain.judge(self.chain.state, context)
        taken = [held for held in plain.held if (held.address, held.nonce) == place and held.id not in dead]
        crowded = plain.is_full(ready, dead)
        try:
            self.pool.add(transaction, self.chain.state, context)
        except Invalid as error:
            refusal = error.code
        else:
            refusal = None
        if crowded:
            plain.held.append(transaction)
        elif taken:
            self.check_replacement(transaction, taken[0], refusal, ready)
        elif refusal is None:
            plain.held.append(transaction)
            after, dead = plain.judge(self.chain.state, context)
            assert transaction.id not in dead
            if not plain.is_full(after):
                assert after == {t.id for t in self.pool.best_first()}
                assert len(self.pool) == len(plain.held) - len(dead)
        elif refusal == "pool_full":
            plain.held.append(transaction)
            assert plain.is_full(ready | ({transaction.id} if transaction.kind == Kind.REVEAL else set()))
            plain.held.pop()
        elif refusal != "sender_full":
            plain.held.append(transaction)
            assert transaction.id not in plain.judge(self.chain.state, context)[0]
            plain.held.pop()
        if refusal is None:
            plain.since[transaction.id] = context.height
            plain.idle.pop(transaction.id, None)  # it may have been here before
        self.adopt()

    def check_replacement(self, transaction, old, refusal, ready):
        pays = transaction.fee >= old.fee + -(-old.fee // 10) + self.rules.minimum_fee(transaction)
        followers = [t for t in self.plain.held if t.address == old.address and t.nonce >= old.nonce]
        if refusal is None:
            assert pays and old.id not in self.pool
            self.plain.held.remove(old)
            self.plain.held.append(transaction)
            after, _ = self.plain.judge(self.chain.state, self.context())
            here = {t.id for t in self.pool.best_first()}
            assert transaction.id in here or transaction.id not in after
            assert after == here or self.plain.is_full(after), "judged from the beginning, all stands as it does"
            assert ready - {t.id for t in followers} <= here, "the transactions of others stay as they were"
        elif (
            refusal == "nonce_taken" and pays and transaction.fee * len(old.raw) > old.fee * len(transaction.raw) * 1.2
        ):
            without, _ = self.plain.judge(self.chain.state, self.context(), followers)
            bound = any(t.kind == Kind.REVEAL and t.id in ready for t in followers)
            # What others spend may be theirs all the same in another order, so this is the one-sided half.
            assert old.id in ready and (bound or without | {t.id for t in followers} != ready or self.spends(followers))

    def spends(self, followers):
        """Whether a payee of `followers` pays something itself."""
        payees = {payee for t in followers if t.kind == Kind.TRANSFER for payee, _ in t.payments}
        return any(t.address in payees for t in self.plain.held)

    def adopt(self):
        """Go on from what the pool holds; it may only have dropped something."""
        pool = self.pool.transactions()
        assert {t.id for t in pool} <= {t.id for t in self.plain.held}
        self.plain.held = pool

    @rule(
        user=st.integers(0, 3), ahead=st.integers(-1, 3), to=st.integers(0, 3), fee=st.integers(200, 2500),
        amount=st.sampled_from([1, 1, START // 3, START]),
    )  # fmt: skip
    def pay(self, user, ahead, to, fee, amount):
        key = USERS[user]
        nonce = max(0, self.pool.next_nonce(self.chain.state, key.address) + ahead)
        self.offer(transfer(key, nonce, USERS[to].address, amount, fee))

    @rule(user=st.integers(0, 3), to=st.integers(0, 3), fee=st.integers(200, 2500))
    def pay_all(self, user, to, fee):
        """Also to oneself: it needs all that others pay, and uses up nothing."""
        key, state = USERS[user], self.pool._scratch or self.chain.state
        amount = accounts.account(state, key.address).balance - fee
        if amount > 0:
            nonce = self.pool.next_nonce(self.chain.state, key.address)
            self.offer(transfer(key, nonce, USERS[to].address, amount, fee))

    @rule(which=st.integers(0, 15), to=st.integers(0, 3), amount=st.sampled_from([1, START // 3, START]))
    def replace(self, which, to, amount):
        """Offer what pays enough to be taken instead of another."""
        if self.plain.held:
            old = self.plain.held[which % len(self.plain.held)]
            key = next(user for user in USERS if user.address == old.address)
            self.offer(transfer(key, old.nonce, USERS[to].address, amount, old.fee * 3 // 2 + 400))

    @rule(user=st.integers(0, 3), mark=st.integers(0, 1000))
    def reveal(self, user, mark):
        key = USERS[user]
        nonce = self.pool.next_nonce(self.chain.state, key.address)
        self.offer(sign_transaction(key, NETWORK, Kind.REVEAL, nonce, 0, CoinbaseBody(mark, ())))

    @rule()
    def time_passes(self):
        self.slot += 1

    @rule(count=st.integers(0, 6))
    def mint(self, count):
        context = self.context()
        best = list(itertools.islice(self.pool.best_first(), count))
        self.take(self.builder.mint(self.chain.tip, context.slot, best))

    @rule(back=st.integers(1, 3), skip=st.integers(0, 3))
    def fork(self, back, skip):
        """A branch that wins, with some of what was in the blocks that it replaces, in a new order."""
        tip = self.chain.tip
        fork = self.chain.block_at(max(0, tip.height - back)).header
        undone = [
            transaction
            for height in range(fork.height + 1, tip.height + 1)
            for transaction in self.chain.block_at(height).transactions[1:]
        ]
        header, slot = fork, self.context().slot
        while header.height <= tip.height:
            block = self.builder.mint(header, slot, undone[skip:])
            undone, slot, header = [], slot + 1, block.header
            self.take(block)

    def take(self, block):
        outcome = self.chain.add_block(block)
        if not outcome.connected:
            return
        context = self.context()
        ready, is_full = self.plain.on_tip(outcome, self.chain.state, context)
        self.pool.on_tip(outcome, self.chain.state, context)
        if not is_full:
            assert ready == {t.id for t in self.pool.best_first()}
            assert self.plain.held == self.pool.transactions()
        self.adopt()

    @invariant()
    def the_pool_is_in_order(self):
        if not hasattr(self, "pool"):
            return
        pool, held = self.pool, self.pool.transactions()
        assert len({(t.address, t.nonce) for t in held}) == len(held) == len(pool)
        assert pool.size == sum(len(t.raw) for t in held)
        ready = {t.id for t in held if pool.standing(t.id) is Standing.READY}
        assert list(pool.best_first()) == self.plain.order(ready) and pool.ready == len(ready)
        ordinary = [t for t in held if t.kind != Kind.REVEAL or t.id not in ready]
        assert len(held) <= LIMITS.count and pool.size <= LIMITS.size
        assert len(ordinary) <= ORDINARY_COUNT and sum(len(t.raw) for t in ordinary) <= ORDINARY_SIZE

    @invariant()
    def what_is_offered_applies(self):
        """Some may wait for money that others send, so they are offered more than once."""
        if not hasattr(self, "pool"):
            return
        context = self.pool._context
        if context is None or context != self.context() or self.pool._scratch is None:
            return  # after an eviction the pool judges anew only when the next transaction comes
        offered = list(self.pool.best_first())
        _, included = self.chain.draft(context.slot, context.seat, bytes(32), offered * len(offered))
        assert {t.id for t in included[1:]} == {t.id for t in offered}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@pytest.mark.long
class TestPoolMachineLong(PoolMachine.TestCase):
    settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
