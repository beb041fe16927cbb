from chain.chain import Chain, Status
from chain.store import Store
from tests.chain.rules import NETWORK, USERS, TestRules, mint, transfer


def test_extend_and_reopen(tmp_path):
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        for i in range(1, 8):
            block = mint(chain, i, transfer(USERS[0], i - 1, USERS[1].address, 5))
            assert len(block.transactions) == 2
            assert chain.add_block(block).status is Status.EXTENDED
        assert chain.verify() == []
        tip = chain.tip
    with Store(tmp_path / "db", NETWORK) as store:
        chain = Chain(store, TestRules())
        assert chain.tip == tip and chain.verify() == []
