"""Pictures of networks: well-formed, self-contained, and safe to put into a page."""

import random
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.spaces import SPACES, InputShape, InvalidGenotype, get_space, picture

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
