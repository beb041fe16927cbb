"""A process whose files cannot grow beyond a limit, as on a full disk: prints each tip, then why it ended."""

from __future__ import annotations

import resource
import signal
import sys

from chain.chain import Chain
from chain.failures import StoreError
from chain.store import Store
from tests.chain.rules import NETWORK, USERS, TestRules, mint, transfer


def main(path: str, limit: int) -> None:
    told: list[str] = []
    with Store(path, NETWORK) as store:
        store.guard.on_failure = lambda error: told.append(error.code)
        chain = Chain(store, TestRules())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            while True:
                payments = [transfer(USERS[0], chain.height, USERS[1].address, 1)]
                chain.add_block(mint(chain, chain.tip.slot + 1, *payments))
                print(chain.height, chain.tip.id.hex(), flush=True)
        except StoreError:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for write in (lambda: chain.add_block(mint(chain, chain.tip.slot + 1)), lambda: store.facts.put(b"k", b"v")):
            try:
                write()
            except StoreError as error:
                print("refused", error.code, flush=True)
        print("served", chain.height, chain.tip.id.hex(), len(chain.verify()), *told, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
