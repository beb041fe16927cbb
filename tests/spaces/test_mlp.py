"""mlp-v1: one graph, one genotype; counts; costs; and that its networks learn a table."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import Recipe, initial_state, reference, run_segment
from consensus.spaces import InputShape, InvalidGenotype, get_space, mlp
from consensus.spaces.graph import MAX_PRODUCTS
from tests.exact.helpers import random_dataset

SPACE = get_space("mlp-v1")
TABLE = InputShape(1, 1, 30, 2)
GENOTYPES = st.tuples(*(st.integers(0, size - 1) for size in SPACE.gene_sizes)).map(bytes)


@settings(deadline=None, print_blob=True)
@given(GENOTYPES, st.randoms(use_true_random=False))
def test_canonical(genotype, rng):
    canonical = SPACE.canonical(genotype)
    assert SPACE.canonical(canonical) == canonical
    graph = SPACE.decode(canonical, TABLE)
    assert graph == SPACE.decode(genotype, TABLE)
    others = rng.sample(SPACE.neighbours(genotype), 5)
    assert all(SPACE.decode(other, TABLE) != graph and SPACE.canonical(other) == other for other in others)
    assert all(rows <= MAX_PRODUCTS and columns <= MAX_PRODUCTS for rows, columns in graph.weight_shapes.values())


def test_distinct_count_is_what_enumeration_of_a_small_version_finds(monkeypatch):
    assert SPACE.distinct_count() == 3_122_703_948
    assert SPACE.distinct_count() == 12 * (48**6 - 1) // 47
    monkeypatch.setattr(mlp, "BLOCKS", mlp.BLOCKS[:3])
    monkeypatch.setattr(mlp, "WIDTHS", mlp.WIDTHS[:2])
    genes = [range(2), *[range(3), range(2)] * 5]
    found = {SPACE.canonical(bytes(genotype)) for genotype in itertools.product(*genes)}
    assert len(found) == SPACE.distinct_count()


def test_text_and_cost():
    genotype = SPACE.parse("06" + "0206" + "0000" + "0308" + "0104" + "0000")
    assert SPACE.text(genotype) == "dense-64 | res-64 | narrow-128 | dense-32"
    cost = SPACE.cost(genotype, TABLE)
    weights = 30 * 64 + 2 * 64 * 64 + (64 * 64 + 64 * 128 + 64 * 128) + 128 * 32 + 32 * 2
    assert cost.parameters == weights
    assert cost.macs == weights + 64 + 128  # sums count one addition for each value


@pytest.mark.parametrize("shape", [InputShape(1, 1, 1041, 2), InputShape(33, 32, 1, 2), InputShape(1, 1, 5, 1)])
def test_rows_that_are_too_long_are_refused(shape):
    with pytest.raises(InvalidGenotype):
        SPACE.decode(bytes(11), shape)


def test_an_image_is_a_row_of_its_pixels():
    assert SPACE.cost(bytes(11), InputShape(28, 28, 1, 10)).parameters == 784 * 8 + 80


@pytest.mark.parametrize("seed", range(4))
def test_training_is_that_of_the_definition(seed):
    rng = random.Random(seed)
    shape = InputShape(1, 1, rng.randint(1, 40), 3)
    graph, dataset = SPACE.decode(SPACE.sample(rng), shape), random_dataset(rng, shape)
    recipe, start = Recipe(steps=2, batch=5, segments=1), initial_state(graph, b"s")
    fast = run_segment(graph, dataset, recipe, b"s", start, 0)
    assert fast.digest() == reference.run_segment(graph, dataset, recipe, b"s", start).digest()
