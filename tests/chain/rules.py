"""Small rules for tests of the ledger: seats with fixed keys, a subsidy, facts that may be missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chain import accounts
from chain.chain import Chain
from chain.errors import BadBlock, BadTransaction, NotApplicable
from chain.hashing import EMPTY, digest
from chain.keys import PrivateKey
from chain.parameters import LedgerParameters
from chain.rules import BlockContext, CoinbasePlan, StateIndex
from chain.state import Overlay, StateView
from chain.types import VERSION, Block, Header, Kind, Output, Part, Transaction, TransferBody, sign_transaction

NETWORK = digest("ponas/test-network")
MINTERS = tuple(PrivateKey(digest("test/minter", bytes([i]))) for i in range(2))
SEATS = tuple(digest("test/seat", bytes([i])) for i in range(2))
USERS = tuple(PrivateKey(digest("test/user", bytes([i]))) for i in range(4))
START = 1_000_000
TASKS_BY_SIZE = StateIndex(b"task", lambda key, value: (len(value).to_bytes(4, "big") + key[4:],))
PARAMETERS = LedgerParameters(3, 20, 100_000, 1, 5_000, 50)


@dataclass
class TestRules:
    """Slot s belongs to seat s mod 2. The payout table of a seat: 3/4 its minter, the rest the first user.

    A PUBLISH needs the fact of its body; a REVEAL applies in even slots only.
    """

    __test__ = False
    network: bytes = NETWORK
    parameters: LedgerParameters = PARAMETERS
    known: set[bytes] = field(default_factory=set)
    start: int = START
    index: StateIndex | None = TASKS_BY_SIZE

    def genesis(self, state: Overlay) -> Header:
        for user in USERS:
            accounts.credit(state, user.address, self.start)
        accounts.change_supply(state, self.start * len(USERS))
        return Header(VERSION, 0, 0, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, bytes(64))

    def check_header(self, state: StateView, parent: Header, header: Header) -> None:
        if header.seat != SEATS[header.slot % 2] or header.minter != MINTERS[header.slot % 2].public:
            raise BadBlock("not the leader of the slot", "not_leader")

    def begin_block(self, state: Overlay, context: BlockContext) -> None:
        state.put(b"slot", context.slot.to_bytes(8, "big"))

    def minimum_fee(self, transaction: Transaction) -> int:
        free = transaction.kind in (Kind.BEACON, Kind.REVEAL)
        return 0 if free else len(transaction.raw) * self.parameters.fee_per_byte

    def apply(self, state: Overlay, context: BlockContext, transaction: Transaction, index: int) -> tuple[object, ...]:
        if transaction.kind == Kind.PUBLISH:
            if transaction.body not in self.known:
                return (transaction.body,)
            state.put(b"task" + transaction.id, transaction.body)
            return ()
        if transaction.kind == Kind.REVEAL:
            if context.slot % 2:
                raise NotApplicable("not the phase", "wrong_phase")
            state.put(b"reveal" + transaction.id, b"")
            return ()
        raise BadTransaction("unknown kind", "unknown_kind")

    def coinbase(self, state: Overlay, context: BlockContext, fees: int) -> CoinbasePlan:
        minted = self.parameters.subsidy_at(context.height)
        total = minted + fees
        mine = total * 3 // 4
        minter = MINTERS[SEATS.index(context.seat)].address
        return CoinbasePlan(
            (Part(context.seat, (Output(minter, mine), Output(USERS[0].address, total - mine))),), minted, 0
        )


def transfer(sender: PrivateKey, nonce: int, target: bytes, amount: int, fee: int = 400) -> Transaction:
    """A signed transfer."""
    return sign_transaction(sender, NETWORK, Kind.TRANSFER, nonce, fee, TransferBody((Output(target, amount),)))


def mint(chain: Chain, slot: int, *transactions: Transaction, **changes: Any) -> Block:
    """A signed block on the tip of `chain`; `changes` replace fields of the header before it is signed."""
    import dataclasses

    seat = slot % 2
    header, included = chain.draft(slot, SEATS[seat], MINTERS[seat].public, transactions)
    return Block(dataclasses.replace(header, **changes).signed(MINTERS[seat], NETWORK), included)
