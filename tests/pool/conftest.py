from __future__ import annotations

import pytest

from tests.pool.rig import Site, new_pool, real_work


@pytest.fixture
async def site(tmp_path):
    site = Site(new_pool(), tmp_path / "site")
    await site.start(real_work())
    yield site
    await site.stop()
