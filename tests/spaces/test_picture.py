"""Pictures of networks: well-formed, self-contained, and safe to put into a page."""

import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.spaces import SPACES, InputShape, InvalidGenotype, get_space, picture
from consensus.spaces.graph import Graph, Node

SVG = "{http://www.w3.org/2000/svg}"

TITLES = st.text(max_size=300) | st.sampled_from(["</title><script>alert(1)</script>", '"&<>', "a\x00b", "x" * 5000])


@settings(deadline=None, print_blob=True)
@given(st.sampled_from(sorted(SPACES)), st.randoms(use_true_random=False), TITLES)
def test_any_network_and_title(name, rng, title):
    space, shape = get_space(name), InputShape(8, 8, 1, 3)
    while True:
        genotype = space.sample(rng)
        try:
            graph = space.decode(genotype, shape)
        except InvalidGenotype:
            continue
        break
    svg = picture(graph, title)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used = {element.tag.partition("}")[2] for element in root.iter()}
    assert used <= {"svg", "title", "rect", "text", "path", "g"}, "nothing that runs or loads"
    assert "href" not in svg and "url(" not in svg.replace(title, "")
    boxes = [element for element in root.iter() if element.tag.endswith("}rect")]
    assert len(boxes) == len(graph.nodes) + 1
    width, height = float(root.get("width")), float(root.get("height"))
    for box in boxes:
        assert float(box.get("x", 0)) >= 0 and float(box.get("x", 0)) + float(box.get("width")) <= width
        assert float(box.get("y", 0)) >= 0 and float(box.get("y", 0)) + float(box.get("height")) <= height


def points(path):
    """Points along a path of M, L, V and C."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MLVC])([-0-9. ]+)", path):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = values
        corners = [(x, y), *zip(values[::2], values[1::2], strict=True)] if command != "V" else [(x, y), (x, values[0])]
        for step in range(101):
            level = corners
            while len(level) > 1:  # de Casteljau
                pairs = [zip(*pair, strict=True) for pair in pairwise(level)]
                level = [tuple((b * step + a * (100 - step)) / 100 for a, b in pair) for pair in pairs]
            yield level[0]
        x, y = corners[-1]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_edge_is_drawn_and_none_runs_through_a_box(name):
    space, seed = get_space(name), random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, seen = random.Random(seed), 0
    while seen < 10:
        try:
            graph = space.decode(space.sample(rng), InputShape(8, 8, 1, 3))
        except InvalidGenotype:
            continue
        seen += 1
        root = ElementTree.fromstring(picture(graph, name))
        boxes = [[float(rect.get(key, 0)) for key in ("x", "y", "width", "height")] for rect in root.iter(SVG + "rect")]
        paths = [element.get("d") for element in root.iter(SVG + "path")]
        assert len(paths) == sum(len(node.inputs) for node in graph.nodes)
        for x, y in (point for path in paths for point in points(path)):
            assert not any(a < x < a + wide and b < y < b + high for a, b, wide, high in boxes[1:])


def test_a_node_that_nobody_would_draw_by_hand():
    """Sixty branches that meet one after another."""
    branches = [Node("conv", (0,), 8, 8, 4, (3, 3), (1, 1), 1) for _ in range(60)]
    sums = [Node("add", (max(1, 59 + index), index + 1), 8, 8, 4) for index in range(1, 60)]
    assert picture(Graph((Node("input", (), 8, 8, 4), *branches, *sums)), "wide").count("<path") == 60 + 2 * 59


def test_it_is_a_function_of_its_arguments_and_names_the_operations():
    space = get_space("nb201-v1")
    graph = space.decode(space.canonical(bytes([3, 2, 4, 1, 3, 2])), InputShape(8, 8, 1, 10))
    svg = picture(graph, "a cell")
    assert svg == picture(graph, "a cell")
    for word in ("conv 3x3", "conv 1x1", "mean 3x3", "add", "relu", "8 x 8 x 8", "logits", "a cell"):
        assert word in svg


@pytest.mark.parametrize("name", sorted(SPACES))
def test_random_samples_have_a_cost(name):
    space, rng = get_space(name), random.Random(1)
    found = 0
    for _ in range(30):
        try:
            cost = space.cost(space.sample(rng), InputShape(8, 8, 1, 10))
        except InvalidGenotype:
            continue
        found += 1
        assert cost.parameters > 0 and cost.macs >= cost.parameters
    assert found > 10
