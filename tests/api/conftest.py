from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from ponas_node.api import ApiLimits, create_app
from tests.api.view import TestView

FREE = ApiLimits(requests_per_second=1e6, burst=1e6)


@pytest.fixture
def view(tmp_path: Path):
    view = TestView(tmp_path)
    yield view
    view.world.store.close()


@pytest.fixture
async def client(view: TestView) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(create_app(view, FREE))) as client:
        yield client
