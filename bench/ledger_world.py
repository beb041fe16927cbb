"""A ledger of the size one asks for, under the real rules: accounts, blocks full of transfers, a file of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from chain.chain import Chain
from chain.hashing import digest
from chain.keys import PrivateKey
from chain.store import Store
from chain.types import MAX_OUTPUTS, Block, Kind, Output, Transaction, TransferBody, sign_transaction
from consensus.facts import NoFacts
from consensus.genesis import Allocation, BuiltInTask, Genesis
from consensus.rules import ConsensusRules
from consensus.types import TaskSpec
from ponas_node.testnet.genesis import LEDGER, consensus_parameters

FEE = 5_000
START = 10**8
SEED = 20260301
_TASK = TaskSpec(
    name="none", dataset=bytes(32), dataset_bytes=1, height=8, width=8, channels=1, classes=10, test_samples=100,
    space="stages-v1", max_parameters=1, max_macs=1, steps=320, batch=32, segments=16, learning_rate=640,
    eval_samples=100, baseline=8000, bounty_per_epoch=0,
)  # fmt: skip
T = TypeVar("T")
_CREATED_PER_BLOCK = 128  # transfers of 256 outputs


class World:
    """Keys, rules and transfers of one benchmark. `keys` are the accounts that send; they are created first."""

    def __init__(self, accounts: int, senders: int, seed: int = SEED) -> None:
        self.random = random.Random(seed)
        self.minter = _key("minter", 0)
        self._funder = _key("funder", 0)
        genesis = Genesis(
            "bench", LEDGER, consensus_parameters(0), (Allocation(self._funder.address, 10**7 * START),),
            (self.minter.public,), (BuiltInTask(_TASK, 0),),
        )  # fmt: skip
        self.rules = ConsensusRules(genesis, NoFacts())
        self.keys = [_key("sender", number) for number in range(senders)]
        self.accounts = accounts
        self._nonces = [0] * senders

    def open(self, path: Path) -> Chain:
        """The chain in the database at `path`; a new one where there is none. Close `chain.store` after use."""
        return Chain(Store(path, self.rules.network), self.rules)

    def address(self, number: int) -> bytes:
        """Address of an account; the first are those that send."""
        if number < len(self.keys):
            return self.keys[number].address
        return digest("bench/other", number.to_bytes(8, "big"))[:20]

    def fund(self, chain: Chain) -> list[Block]:
        """Make all accounts."""
        transfers = [
            self._sign(self._funder, number, [Output(self.address(i), START) for i in part], 10 * MAX_OUTPUTS * 32)
            for number, part in enumerate(_parts(range(self.accounts), MAX_OUTPUTS))
        ]
        return [self.mint(chain, part) for part in _parts(transfers, _CREATED_PER_BLOCK)]

    def transfers(self, count: int, fee: int = FEE) -> list[Transaction]:
        """Transfers between accounts drawn at random, every sender's in order."""
        return [self.transfer(self.random.randrange(len(self.keys)), fee) for _ in range(count)]

    def transfer(self, sender: int, fee: int = FEE) -> Transaction:
        """The next transfer of a sender."""
        nonce = self._nonces[sender]
        self._nonces[sender] += 1
        return self._sign(
            self.keys[sender], nonce, [Output(self.address(self.random.randrange(self.accounts)), 1)], fee
        )

    def mint(self, chain: Chain, transactions: Sequence[Transaction], later: int = 1) -> Block:
        """A block on the tip, `later` slots after it, made the tip."""
        block = self.draft(chain, transactions, later)
        chain.extend([block])
        return block

    def draft(self, chain: Chain, transactions: Iterable[Transaction], later: int = 1) -> Block:
        """A block for the tip, not added."""
        slot = chain.tip.slot + later
        seat = self.rules.leader(chain.state, chain.tip, slot)
        header, taken = chain.draft(slot, seat, self.minter.public, transactions)
        return Block(header.signed(self.minter, self.rules.network), taken)

    def _sign(self, key: PrivateKey, nonce: int, outputs: Sequence[Output], fee: int) -> Transaction:
        return sign_transaction(key, self.rules.network, Kind.TRANSFER, nonce, fee, TransferBody(tuple(outputs)))


def write_blocks(path: Path, blocks: Iterable[Block]) -> None:
    """A file of blocks, each after its length."""
    with path.open("wb") as file:
        for block in blocks:
            file.write(len(block.raw).to_bytes(4, "big") + block.raw)


def read_blocks(path: Path) -> Iterator[bytes]:
    """The blocks of a file of `write_blocks`."""
    with path.open("rb") as file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "big"))


def _key(name: str, number: int) -> PrivateKey:
    return PrivateKey(digest("bench/" + name, number.to_bytes(8, "big")))


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
