"""The auditor: what it tells its owner."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from ponas_node.auditor import Auditor, Verdict
from tests.consensus.world import World
from tests.network.cluster import key


async def test_an_owner_whose_wallet_cannot_pay_a_challenge_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path / "db")
    forged = world.competition({1: [world.find(1, 150)]})[1][0].id
    config = SimpleNamespace(nice=0)
    node = SimpleNamespace(chain=world.chain, genesis=world.genesis, store=world.store, config=config)
    auditor = Auditor(node, key(9))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await auditor._file(Verdict(forged, 0, True, 0, b"", 0))
    (record,) = caplog.records
    assert "balance 0 is less than" in record.getMessage()
