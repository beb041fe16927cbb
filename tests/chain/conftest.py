"""Fixtures of the ledger's tests."""

import pytest

from chain.chain import Chain
from chain.store import Store
from tests.chain.builder import Builder
from tests.chain.rules import NETWORK, TestRules


@pytest.fixture
def rules():
    return TestRules()


@pytest.fixture
def chain(tmp_path, rules):
    with Store(tmp_path / "db", NETWORK) as store:
        yield Chain(store, rules)


@pytest.fixture
def builder(rules):
    return Builder(rules)
