"""The judgement of a testnet: a network in which nothing happened, or that is damaged, must not pass."""

from __future__ import annotations

from pathlib import Path

from chain import accounts
from chain.chain import Chain
from chain.store import Store
from consensus.facts import NoFacts
from consensus.rules import ConsensusRules
from ponas_node.testnet.audit import audit
from ponas_node.testnet.layout import FULL_NODES, MEMBERS, prepare


def test_an_idle_or_damaged_network_fails(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "net", 0)
    genesis = layout.genesis()
    for name in FULL_NODES:
        with Store(layout.data(name) / "db", genesis.network) as store:
            Chain(store, ConsensusRules(genesis, NoFacts()))
    report = audit(layout, epochs_wanted=3)
    text = "\n".join(report["problems"])
    assert not report["ok"]
    for expected in ("0 epochs were settled", "no competition has had a result", "the pool won no seat", *MEMBERS):
        assert expected in text
    assert all(s["supply"] == s["balances"] > 0 for s in report["supply"].values())

    address = next(iter(layout.addresses().values()))
    with Store(layout.data("node2") / "db", genesis.network) as store:
        key = next(k for k, _ in store.state.items() if k.startswith(accounts.ACCOUNT) and k.endswith(address))
        raw = next(k for k, _ in store.raw_iterate(b"") if k.endswith(key))
        store._db.put(raw, accounts.Account(1, 0).encode(), sync=True)
    damaged = audit(layout, epochs_wanted=0)
    assert any(problem.startswith("node2: ") for problem in damaged["problems"])


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    first = prepare(tmp_path / "net", 0)
    before = {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()}
    again = prepare(tmp_path / "net", 0)
    assert again == first
    assert {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()} == before
