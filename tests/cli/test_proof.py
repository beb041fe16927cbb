"""`ponas inspect proof` against a live API and against files, honest and forged."""

from __future__ import annotations

import json
from pathlib import Path

from chain.keys import address_text
from tests.cli.conftest import one_line


def test_a_proof_is_checked_kept_and_checked_again(run, node):
    node.world.mint()
    name = address_text(node.world.keys[1].address)
    tip = node.view.chain.tip.id.hex()
    ask = ["--node", node.url]
    shown = run("inspect", "proof", "account", name, "--out", "p.json", *ask)
    assert "10000000" in shown and "not proven" in shown
    assert "that you trust" in run("inspect", "proof", "account", name, "--block", tip, *ask)
    answer = json.loads(run("inspect", "proof", "--file", "p.json", "--block", tip, "--json"))
    assert answer["claim"] == {"exists": True, "balance": 10_000_000, "nonce": 0} and answer["trusted"]
    node.world.mint()
    moved = run("inspect", "proof", "account", name, "--block", tip, *ask, code=1)
    assert "not of" in one_line(moved)
    absent = json.loads(run("inspect", "proof", "seat", "ab" * 32, "--json", *ask))
    assert absent["claim"] == {"exists": False, "active": False} and not absent["trusted"]


def test_forged_and_malformed_proofs(run, node):
    name = address_text(node.world.keys[1].address)
    tip = node.view.chain.tip.id.hex()
    run("inspect", "proof", "account", name, "--out", "p.json", "--node", node.url)
    good = json.loads(Path("p.json").read_text())
    other = address_text(node.world.keys[2].address)
    balance = (10_000_000).to_bytes(4, "big").hex()
    forged = [
        {**good, "name": other},
        {**good, "kind": "task"},
        {**good, "proof": good["proof"].replace(balance, "00ffffff")},
        {**good, "proof": good["proof"][:-2]},
        {**good, "proof": "zz"},
        {**good, "proof": 5},
        {"kind": "account"},
    ]
    assert balance in good["proof"]
    for number, answer in enumerate(forged):
        Path(f"f{number}.json").write_text(json.dumps(answer))
        code = 2 if answer.get("kind") == "task" else 1
        one_line(run("inspect", "proof", "--file", f"f{number}.json", "--block", tip, code=code))
    Path("list.json").write_text("[]")
    Path("bytes.json").write_bytes(b"\xff")
    for path in ("list.json", "bytes.json", "none.json"):
        one_line(run("inspect", "proof", "--file", path, code=1))


def test_wrong_usage(run):
    one_line(run("inspect", "proof", code=2))
    one_line(run("inspect", "proof", "account", code=2))
    one_line(run("inspect", "proof", "seat", "12", code=2))
    one_line(run("inspect", "proof", "seat", "ab" * 32, "--block", "12", code=2))
    one_line(run("inspect", "proof", "account", "pn1", code=2))
