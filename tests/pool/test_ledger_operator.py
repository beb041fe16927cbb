"""The operator's choices: file, options, and what is refused."""

from __future__ import annotations

import json

import pytest

from chain.keys import address_text
from ponas_node.api.metrics import metrics_text
from ponas_node.cli.main import main
from ponas_node.pool_config import BadPoolConfig, PoolOptions, pool_options
from ponas_node.testnet import genesis as testnet
from pool.records import Terms
from tests.api.view import TestView
from tests.pool.kit import key

WALLET, OTHER = key(1).address, key(2).address


def test_options_override_the_file_and_the_file_the_defaults(tmp_path):
    file = tmp_path / "pool.toml"
    file.write_text('payout_scheme = "pplns"\nwindow_points = 1000\nfee_bps = 150\nlease_seconds = 60\n')
    options = pool_options(file, {"fee_bps": 200, "window_points": None})
    assert options == PoolOptions("pplns", 1000, 200, lease_seconds=60)
    assert options.terms(WALLET) == Terms("pplns", 1000, 200, WALLET)
    named = pool_options(None, {"fee_bps": 1, "fee_address": address_text(OTHER)})
    assert named.terms(WALLET).operator == OTHER
    assert pool_options(None, {}).terms(WALLET) == Terms()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fee_bps = 5001", "from 0 to 5000"),
        ("fee_bps = true", "must be a number"),
        ("fee_bps = 1.5", "must be a number"),
        ('payout_scheme = "mine"', "no payout scheme"),
        ('payout_scheme = "pplns"', "needs a window"),
        ("window_points = 5", "only pplns has a window"),
        ('fee_bps = 5\nfee_address = "pn1x"', "do not fit"),
        ("minimum_points = 0", "from 1"),
        ("lease_seconds = nan", "from 10"),
        ("colour = 5", "no option 'colour'"),
        ("fee_bps == 5", "is not TOML"),
    ],
)
def test_choices_that_cannot_be_are_refused_with_a_reason(tmp_path, capsys, text, said):
    file = tmp_path / "pool.toml"
    file.write_text(text)
    with pytest.raises(BadPoolConfig, match=said):
        pool_options(file, {})
    genesis = tmp_path / "genesis.json"
    genesis.write_text(testnet.testnet_genesis(0, bootstrap=(key(1).public,), funded=()).to_json())
    wallet = ["--wallet", str(tmp_path / "w.json")]
    assert main(["wallet", "new", "--no-encryption", *wallet]) == 0
    node = ["node", "--pool", "--genesis", str(genesis), "--data", str(tmp_path / "data"), *wallet]
    assert main([*node, "--pool-config", str(file)]) == 2
    assert said.replace("\\", "") in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_no_pool_to_ask(tmp_path, capsys):
    assert main(["pool", "status", "--data", str(tmp_path)]) == 1
    assert "No pool answers" in capsys.readouterr().err


def test_metrics_of_a_pool(tmp_path):
    view = TestView(tmp_path)
    assert "ponas_pool_" not in metrics_text(view)
    view.pool = json.loads('{"members": 3, "shares": 7, "rejected": {"wrong_score": 2, "ba\\"d": 1}}')
    lines = metrics_text(view).splitlines()
    assert "ponas_pool_members 3" in lines
    assert 'ponas_pool_shares_rejected_total{code="wrong_score"} 2' in lines
    assert 'ponas_pool_shares_rejected_total{code="ba\\"d"} 1' in lines
    assert "# TYPE ponas_pool_shares gauge" in lines
    assert sum(line.startswith("# TYPE ponas_pool_shares_rejected_total counter") for line in lines) == 1
