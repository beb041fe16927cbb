"""Search spaces: one graph, one canonical genotype; counts; hostile genotypes."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.spaces import SPACES, InputShape, InvalidGenotype, UnknownSpace, get_space, stages
from consensus.spaces.graph import MAX_PRODUCTS, GraphBuilder

SPACE = get_space("stages-v1")
LARGE = InputShape(32, 32, 3, 10)
GENOTYPES = st.tuples(*(st.integers(0, size - 1) for size in SPACE.gene_sizes)).map(bytes)


def test_unknown_space_is_named():
    with pytest.raises(UnknownSpace, match="stages-v1"):
        get_space("stages-v0")
    assert all(SPACES[name].name == name for name in SPACES)


@settings(deadline=None, print_blob=True)
@given(GENOTYPES)
def test_canonical_is_idempotent_and_decodes_to_the_same_graph(genotype):
    canonical = SPACE.canonical(genotype)
    assert SPACE.canonical(canonical) == canonical
    assert SPACE.decode(canonical, LARGE) == SPACE.decode(genotype, LARGE)
    assert SPACE.text(canonical) == SPACE.text(genotype)
    assert SPACE.parse(canonical.hex()) == canonical


@settings(deadline=None, print_blob=True)
@given(GENOTYPES, st.randoms(use_true_random=False))
def test_different_canonical_genotypes_are_different_graphs(genotype, rng):
    """Close relatives are the likeliest to coincide: neighbours, and the same blocks in other stages."""
    origin = SPACE.canonical(genotype)
    stem, parts, head = origin[:2], [origin[2:6], origin[6:10], origin[10:14]], origin[14:]
    orders = [*itertools.permutations(parts), *itertools.product(parts, repeat=3)]
    crafted = [SPACE.canonical(stem + b"".join(order) + head) for order in orders]
    graphs = {}
    for other in {origin, *rng.sample(SPACE.neighbours(origin), 5), *crafted}:
        graphs.setdefault(SPACE.decode(other, LARGE), []).append(other)
    assert all(len(same) == 1 for same in graphs.values())


@settings(deadline=None, print_blob=True)
@given(GENOTYPES, st.randoms(use_true_random=False))
def test_mutation_is_a_neighbour_one_gene_away(genotype, rng):
    origin = SPACE.canonical(genotype)
    neighbours = SPACE.neighbours(genotype)
    assert len(set(neighbours)) == len(neighbours) and origin not in neighbours
    assert all(SPACE.canonical(other) == other for other in neighbours)
    assert SPACE.mutate(genotype, rng) in neighbours


def test_distinct_count_is_what_enumeration_of_a_small_version_finds(monkeypatch):
    for name, size in (("BLOCKS", 2), ("WIDTHS", 2), ("REDUCTIONS", 2), ("HEADS", 1), ("STEM_KERNELS", 1)):
        monkeypatch.setattr(stages, name, getattr(stages, name)[:size])
    monkeypatch.setattr(stages, "MAX_DEPTH", 2)
    genes = [range(1), range(2), *[range(3), range(2), range(2), range(2)] * 3, range(1)]
    found = {SPACE.canonical(bytes(genotype)) for genotype in itertools.product(*genes)}
    assert len(found) == SPACE.distinct_count()


def test_there_are_more_than_a_thousand_million_architectures():
    assert SPACE.distinct_count() == 6_843_937_572


@settings(deadline=None, print_blob=True)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_genotype_or_refused(data):
    try:
        SPACE.validate(data)
    except InvalidGenotype as error:
        assert str(error).endswith(".")
        for method in (SPACE.canonical, SPACE.text, SPACE.neighbours):
            with pytest.raises(InvalidGenotype):
                method(data)
    else:
        SPACE.decode(data, LARGE)


@pytest.mark.parametrize("text", ["", "zz", "00", "é", "ff" * 15, "00" * 16])
def test_bad_text_is_refused(text):
    with pytest.raises(InvalidGenotype):
        SPACE.parse(text)


@settings(deadline=None, print_blob=True)
@given(GENOTYPES, st.integers(1, 40), st.integers(1, 40), st.integers(1, 48), st.integers(2, 1000))
def test_every_decoded_network_keeps_the_exact_bound(genotype, height, width, channels, classes):
    try:
        graph = SPACE.decode(genotype, InputShape(height, width, channels, classes))
    except InvalidGenotype:
        return
    for index, (rows, columns) in graph.weight_shapes.items():
        node = graph.nodes[index]
        overlap = 1
        for size, stride, outputs in zip(node.kernel, node.stride, (node.height, node.width), strict=True):
            overlap *= min(outputs, -(-size // stride))
        assert rows <= MAX_PRODUCTS
        assert overlap * (columns if node.kind == "conv" else 1) <= MAX_PRODUCTS
    assert graph.nodes[-1].height == graph.nodes[-1].width == 1 and graph.classes == classes
    assert SPACE.cost(genotype, InputShape(height, width, channels, classes)) == graph.cost


def test_networks_that_do_not_fit_are_refused():
    stem = bytes([1, 0])
    halving = bytes([1, 0, 0, 1])
    with pytest.raises(InvalidGenotype, match="one pixel"):
        SPACE.decode(stem + halving * 3 + b"\0", InputShape(2, 2, 1, 2))
    pooling = bytes([1, 0, 0, 2])
    with pytest.raises(InvalidGenotype, match="too small"):
        SPACE.decode(stem + pooling * 3 + b"\0", InputShape(4, 4, 1, 2))
    with pytest.raises(InvalidGenotype, match="exact range"):
        SPACE.decode(stem + bytes(13), InputShape(8, 8, 42, 2))
    with pytest.raises(InvalidGenotype, match="one pixel"):
        SPACE.decode(stem + bytes(12) + b"\1", InputShape(1, 1, 1, 2))
    with pytest.raises(InvalidGenotype, match="exact range"):
        SPACE.decode(stem + bytes(13), InputShape(1000, 1000, 1, 2))
    with pytest.raises(InvalidGenotype):
        SPACE.decode(stem + bytes(13), InputShape(0, 8, 1, 2))


def test_the_builder_refuses_to_add_different_shapes():
    build = GraphBuilder(InputShape(8, 8, 1, 3))
    narrow, wide = build.conv(0, 4, 3), build.conv(0, 8, 3)
    with pytest.raises(InvalidGenotype, match="one shape"):
        build.add(narrow, wide)


def test_cost_of_a_network_worked_out_by_hand():
    # conv3-8 on 4 x 4 x 1: 72 weights; mean over 16 pixels of 8 channels; dense 8 to 2: 16 weights.
    cost = SPACE.cost(bytes(15), InputShape(4, 4, 1, 2))
    assert (cost.parameters, cost.macs) == (72 + 16, 16 * 72 + 16 * 8 + 16)


def test_samples_are_canonical_and_of_all_kinds():
    rng = random.Random(5)
    samples = [SPACE.sample(rng) for _ in range(200)]
    assert all(SPACE.canonical(genotype) == genotype for genotype in samples)
    words = " ".join(map(SPACE.text, samples))
    assert all(word in words for word in (*stages.BLOCKS, "stride", "max", "mean", "quadrants"))
