"""A process that keeps changing the tip, reorgs included, until it is killed. Says each height it has reached."""

from __future__ import annotations

import sys

from chain.chain import Chain
from chain.store import Store
from chain.types import Block
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, USERS, TestRules, transfer


def say(chain: Chain) -> None:
    print(chain.height, chain.tip.id.hex(), flush=True)


def main(path: str) -> None:
    chain = Chain(Store(path, NETWORK), TestRules())
    builder = Builder(chain.rules)
    builder.states[chain.tip.id] = dict(chain.store.state.items())
    say(chain)
    while True:
        base = chain.tip
        nonce = chain.height // 3
        payment = transfer(USERS[0], nonce, USERS[1].address, 1)
        short = builder.mint(base, base.slot + 1, [payment])
        long: list[Block] = []
        for slot in (2, 3, 4):
            header = long[-1].header if long else base
            long.append(builder.mint(header, base.slot + slot, [] if long else [payment]))
        for block in (short, *long):
            if chain.add_block(block).connected:
                say(chain)
        builder.forget({chain.tip.id})


if __name__ == "__main__":
    main(sys.argv[1])
