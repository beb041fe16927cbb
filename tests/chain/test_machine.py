"""A stateful machine: Chain against a model that keeps all in dictionaries, through forks, restarts and crashes."""

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from chain import accounts
from chain.chain import Chain, Status
from chain.errors import BadBlock, Missing, TooDeep, UnknownParent
from chain.proofs import MAX_PROOF, BadProof, StateProof, proven
from chain.store import Store
from chain.types import CoinbaseBody, Kind, sign_transaction
from tests.chain.builder import Builder, DictState
from tests.chain.rules import NETWORK, PARAMETERS, USERS, TestRules, transfer

ROLLBACK = 8


@dataclasses.dataclass
class Model:
    """What Chain should do, said as simply as possible."""

    blocks: dict
    tip: object
    known: set
    bad: set

    def path(self, header):
        """Ids from genesis to `header`."""
        found = [header.id]
        while header.height:
            header = self.blocks[header.parent].header
            found.append(header.id)
        return found[::-1]

    def expect(self, block, is_faulty, lacks_facts):
        """What adding `block` should give; changes the model."""
        header = block.header
        if block.id in self.known:
            return Status.KNOWN
        if block.id in self.bad:
            return BadBlock
        if header.parent in self.bad:
            self.bad.add(block.id)
            return BadBlock
        if header.parent not in self.known:
            return UnknownParent
        main, path = self.path(self.tip), self.path(header)
        fork = [block_id for block_id in path if block_id in set(main)][-1]
        if self.tip.slot - self.blocks[fork].header.slot > ROLLBACK:
            return TooDeep
        if header.height <= self.tip.height:
            self.known.add(block.id)
            return Status.SIDE
        for block_id in path[path.index(fork) + 1 :]:
            if is_faulty(block_id):
                self._condemn(block_id)
                self.bad.add(block.id)
                return BadBlock
            if lacks_facts(block_id):
                return Missing
        status = Status.EXTENDED if fork == self.tip.id else Status.REORG
        self.tip = header
        self.known.add(block.id)
        self._prune(set(path))
        return status

    def _condemn(self, bad_id):
        for block_id in [i for i in self.known if bad_id in self.path(self.blocks[i].header)]:
            self.known.discard(block_id)
            self.bad.add(block_id)

    def _prune(self, main):
        old = {i for i in self.known - main if self.blocks[i].header.slot < self.tip.slot - ROLLBACK}
        for block_id in [i for i in self.known - main if old & set(self.path(self.blocks[i].header))]:
            self.known.discard(block_id)


class ChainMachine(RuleBasedStateMachine):
    """Random blocks on random parents, some faulty, some that lack facts, with restarts and crashes in between."""

    headers = Bundle("headers")

    @initialize(target=headers)
    def start(self):
        self.directory = tempfile.mkdtemp(prefix="ponas-machine-")
        self.rules = TestRules(parameters=dataclasses.replace(PARAMETERS, max_rollback=ROLLBACK))
        self.builder = Builder(self.rules)
        genesis = self.builder.genesis
        self.faulty, self.lacking, self.facts = set(), {}, 0
        self.store = Store(self.directory + "/db", NETWORK)
        self.chain = Chain(self.store, self.rules)
        block = self.chain.block_at(0)
        self.model = Model({genesis.id: block}, genesis, {genesis.id}, set())
        self.tips = [genesis]  # of every write since the database was opened
        return genesis

    def offer(self, block):
        """Add `block` to chain and model and compare."""
        lacks = {i for i, fact in self.lacking.items() if fact not in self.rules.known}
        expected = self.model.expect(block, self.faulty.__contains__, lacks.__contains__)
        if isinstance(expected, Status):
            outcome = self.chain.add_block(block)
            assert outcome.status is expected
            if outcome.connected:
                assert outcome.connected[-1] == block
                self.tips.append(block.header)
        else:
            with pytest.raises(expected):
                self.chain.add_block(block)

    @rule(
        target=headers,
        parent=headers,
        ahead=st.integers(1, 4),
        pays=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 600_000)), max_size=2),
        fault=st.sampled_from(["", "", "", "", "root", "fact"]),
        deliver=st.booleans(),
    )
    def mint(self, parent, ahead, pays, fault, deliver):
        view = DictState(self.builder.states[parent.id])
        nonces = [accounts.account(view, key.address).nonce for key in USERS]
        transactions = []
        for sender, target, amount in pays:
            transactions.append(transfer(USERS[sender], nonces[sender], USERS[target].address, amount))
            nonces[sender] += 1
        if fault == "fact":
            self.facts += 1
            body = CoinbaseBody(self.facts, ())
            self.rules.known.add(body.encode())
            transactions.append(sign_transaction(USERS[3], NETWORK, Kind.PUBLISH, nonces[3], 500, body))
        changes = {"state_root": bytes(32)} if fault == "root" else {}
        block = self.builder.mint(parent, parent.slot + ahead, transactions, **changes)
        if fault == "root":
            self.faulty.add(block.id)
        if fault == "fact" and len(block.transactions) > 1 and block.transactions[-1].kind == Kind.PUBLISH:
            self.lacking[block.id] = body.encode()
            self.rules.known.discard(body.encode())
        self.model.blocks[block.id] = block
        if deliver or ahead > 1:
            self.offer(block)
        return block.header

    @rule(target=headers, back=st.integers(0, 3), gap=st.integers(1, 3), length=st.integers(1, 5))
    def race(self, back, gap, length):
        """A branch that starts a little below the tip, so that many win."""
        path = self.model.path(self.model.tip)
        header = self.model.blocks[path[max(0, len(path) - 1 - back)]].header
        for _ in range(length):
            if header.id in self.faulty:
                break
            block = self.builder.mint(header, header.slot + gap, [])
            self.model.blocks[block.id] = block
            self.offer(block)
            header = block.header
        return header

    @rule(header=headers)
    def deliver(self, header):
        self.offer(self.model.blocks[header.id])

    @rule(header=headers)
    def deliver_branch(self, header):
        for block_id in self.model.path(header):
            self.offer(self.model.blocks[block_id])

    @precondition(lambda self: self.lacking)
    @rule()
    def establish_facts(self):
        self.rules.known.update(self.lacking.values())

    @rule()
    def reopen(self):
        self.store.close()
        self.open()
        assert self.chain.tip == self.model.tip

    @rule(cut=st.integers(0, 5) | st.integers(0, 20_000))
    def crash(self, cut):
        """What a loss of power leaves on disk: LevelDB's log without its last `cut` bytes."""
        self.store.close()
        log = max(Path(self.directory, "db").glob("*.log"))
        size = log.stat().st_size
        os.truncate(log, max(0, size - cut))
        tips = self.tips
        self.open()
        assert self.chain.tip in (tips if cut else tips[-1:])
        if size and cut >= size:
            assert self.chain.tip == tips[0]
        self.model.tip = self.chain.tip
        self.model.known = set(self.model.path(self.model.tip))

    def open(self):
        self.store = Store(self.directory + "/db", NETWORK)
        self.chain = Chain(self.store, self.rules)
        self.tips = [self.chain.tip]
        self.model.known = set(self.model.path(self.model.tip))
        self.model.bad = set()
        assert self.chain.verify() == []

    @invariant()
    def the_tip_and_its_state_agree(self):
        if not hasattr(self, "chain"):
            return
        assert self.chain.tip == self.model.tip
        expected = self.builder.states[self.model.tip.id]
        assert dict(self.store.state.items()) == expected
        assert all(self.store.state.get(key) == value for key, value in expected.items())
        assert all(self.chain.has(i) == (i in self.model.known) for i in self.model.blocks)
        self.every_proof_holds(expected)
        held = [accounts.Account.decode(value) for key, value in expected.items() if key.startswith(accounts.ACCOUNT)]
        assert sum(account.balance for account in held) == accounts.supply(self.chain.state)
        path = self.model.path(self.model.tip)
        assert [self.chain.id_at(height) for height in range(len(path) + 1)] == [*path, None]

    def every_proof_holds(self, expected):
        """Proofs of all that is there, and of as much that is not: keys beside them, and those of other states."""
        others = {key for state in list(self.builder.states.values())[-3:] for key in state}
        absent = {key + b"\0" for key in expected} | {key[:-1] for key in expected} | others | {self.model.tip.id}
        asked = [*expected, *sorted(absent - set(expected))]
        for start in range(0, len(asked), 16):
            proof = self.chain.prove(asked[start : start + 16])
            shown = proven(StateProof.decode(proof.encode(), MAX_PROOF), self.model.tip.id)
            assert all(shown.get(key) == expected.get(key) for key in asked[start : start + 16])
            for entry in proof.entries:
                lie = dataclasses.replace(entry, value=() if entry.value else (b"",))
                with pytest.raises(BadProof):
                    proven(StateProof(proof.header, (lie,)), self.model.tip.id)

    def teardown(self):
        if hasattr(self, "chain"):
            findings = self.chain.verify()
            self.store.close()
            shutil.rmtree(self.directory)
            assert findings == []


TestChainMachine = ChainMachine.TestCase
TestChainMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.long
class TestChainMachineLong(ChainMachine.TestCase):
    settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
