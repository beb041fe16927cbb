"""Drawings of networks: what is drawn, with which headers, and what is refused."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from aiohttp.test_utils import TestClient, TestServer

from consensus import records
from consensus.spaces import get_space
from ponas_node.api import ApiLimits, create_app
from tests.api.test_endpoints import code, get
from tests.api.view import random_hash

STAGES = "000000000000000000000000000000"
SHAPE = "height=8&width=8&channels=1&classes=10"


async def drawn(client, path: str) -> list[str]:
    """The texts of a picture, the title first."""
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "image/svg+xml"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "unsafe" not in policy
    root = ElementTree.fromstring(await answer.text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [element.text for element in root.iter() if element.text]


async def test_picture_of_a_result(view, client):
    reveals = view.compete()
    for reveal in reveals:
        found = records.result(view.chain.state, reveal.id)
        texts = await drawn(client, f"/v1/results/{reveal.id.hex()}/picture.svg")
        assert texts[0] == get_space("stages-v1").text(found.genotype)
        assert "8 x 8 x 1" in texts and "1 x 1 x 10" in texts
    assert await code(client, f"/v1/results/{random_hash()}/picture.svg", 404) == "unknown_result"
    assert await code(client, "/v1/results/abc/picture.svg", 400) == "bad_id"


async def test_picture_of_a_genotype(client):
    texts = await drawn(client, f"/v1/spaces/stages-v1/{STAGES}/picture.svg?{SHAPE}")
    assert texts[0] == "conv3-8 | mean" and "8 x 8 x 1" in texts
    texts = await drawn(client, f"/v1/spaces/mlp-v1/{'00' * 11}/picture.svg?height=1&width=30&channels=1&classes=2")
    assert texts[0] == "dense-8" and "1 x 30 x 1" in texts
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    texts = await drawn(client, f"/v1/spaces/nb201-v1/{cell}/picture.svg?{SHAPE}")
    assert "conv 3x3" in texts


@pytest.mark.parametrize(
    ("genotype", "query", "wrong"),
    [
        (STAGES, "", "bad_shape"), (STAGES, "height=8&width=8&channels=1", "bad_shape"),
        (STAGES, SHAPE.replace("classes=10", "classes=1"), "bad_shape"),
        (STAGES, SHAPE.replace("height=8", "height=0"), "bad_shape"),
        (STAGES, SHAPE.replace("width=8", "width=1025"), "bad_shape"),
        (STAGES, SHAPE.replace("channels=1", "channels=9999999999999999999"), "bad_shape"),
        (STAGES, SHAPE.replace("height=8", "height=-8"), "bad_number"),
        (STAGES, SHAPE.replace("height=8", "height=x"), "bad_number"),
        ("xyz", SHAPE, "bad_genotype"), ("00", SHAPE, "bad_genotype"), ("ff" * 15, SHAPE, "bad_genotype"),
        ("00" * 3000, SHAPE, "bad_genotype"), (STAGES, SHAPE.replace("channels=1", "channels=1024"), "bad_genotype"),
        ("%3Cscript%3E", SHAPE, "bad_genotype"), ("%00", SHAPE, "bad_genotype"),
    ],
)  # fmt: skip
async def test_bad_genotypes_and_shapes(client, genotype, query, wrong):
    assert await code(client, f"/v1/spaces/stages-v1/{genotype}/picture.svg?{query}", 400) == wrong


async def test_unknown_space(client):
    body = await get(client, f"/v1/spaces/none-v1/{STAGES}/picture.svg?{SHAPE}", 404)
    assert body["error"]["code"] == "unknown_space" and "stages-v1" in body["error"]["message"]


async def test_the_largest_network_that_may_be_asked_for_is_small(client):
    """What is drawn grows with the nodes, whose number a genotype bounds, not with the shape."""
    deepest = bytes([0, 5, *(3, 7, 5, 1), *(3, 7, 4, 1), *(3, 7, 5, 1), 2]).hex()
    query = "height=1024&width=1024&channels=40&classes=1000"
    answer = await client.get(f"/v1/spaces/stages-v1/{deepest}/picture.svg?{query}")
    assert answer.status == 200 and len(await answer.read()) < 20_000


async def test_pictures_are_dear(view):
    limits = ApiLimits(requests_per_second=1, burst=10)
    async with TestClient(TestServer(create_app(view, limits, lambda: 0.0))) as client:
        path = f"/v1/spaces/stages-v1/{STAGES}/picture.svg?{SHAPE}"
        assert [(await client.get(path)).status for _ in range(3)] == [200, 200, 429]


async def test_the_page_may_show_pictures_of_its_own_node_only(client):
    answer = await client.get("/")
    assert "img-src data: 'self';" in answer.headers["Content-Security-Policy"]
    assert "/picture.svg" in await answer.text()
