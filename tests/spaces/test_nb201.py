"""nb201-v1: the published count of cells, their strings, and cells that must not pass as two."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import Recipe, initial_state, reference, run_segment
from consensus.spaces import InputShape, InvalidGenotype, get_space
from consensus.spaces.cells import EDGES, OPERATIONS, classes, function, live_edges, unique_text
from tests.exact.helpers import random_dataset

SPACE = get_space("nb201-v1")
SHAPE = InputShape(8, 8, 1, 10)
CELLS = [bytes(genes) for genes in itertools.product(range(5), repeat=6)]
GENOTYPES = st.sampled_from(CELLS)
KNOWN = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def test_6466_of_15625_cells_are_distinct():
    assert len(CELLS) == 15_625
    canonical = {SPACE.canonical(cell) for cell in CELLS}
    assert len(canonical) == SPACE.distinct_count() == 6_466
    assert all(SPACE.canonical(cell) == cell for cell in canonical)
    assert all(unique_text(SPACE.canonical(cell)) == unique_text(cell) for cell in CELLS)


def test_4929_can_be_trained_and_no_two_of_them_compute_the_same():
    admitted = classes().admitted
    kept = [cell for cell, chosen in admitted.items() if cell == chosen and live_edges(cell)]
    assert len(kept) == len({function(cell) for cell in kept}) == 4_929
    assert len({function(cell) for cell in CELLS}) == 4_930
    assert all(function(cell) == function(chosen) for cell, chosen in admitted.items())
    rng = random.Random(1)
    for cell in rng.sample(sorted(admitted), 300):
        if admitted[cell] == cell and live_edges(cell):
            SPACE.decode(cell, SHAPE)
        else:
            with pytest.raises(InvalidGenotype, match=r"use that one|does not depend"):
                SPACE.decode(cell, SHAPE)


def test_networks_of_admitted_cells_differ():
    """Cells with one multiset of operations are the likeliest to coincide."""
    groups = {}
    for cell, chosen in classes().admitted.items():
        if cell == chosen and live_edges(cell):
            groups.setdefault(bytes(sorted(operation for _, _, operation in live_edges(cell))), []).append(cell)
    rng = random.Random(2)
    for group in rng.sample(sorted(groups.values()), 12):
        some = rng.sample(group, min(len(group), 12))
        assert len({SPACE.decode(cell, InputShape(4, 4, 1, 2)) for cell in some}) == len(some)


@settings(deadline=None, print_blob=True)
@given(GENOTYPES)
def test_strings_round_trip(cell):
    canonical = SPACE.canonical(cell)
    assert SPACE.parse(SPACE.text(cell)) == canonical
    written = "+".join(
        "|" + "|".join(f"{OPERATIONS[op]}~{a}" for (a, b), op in zip(EDGES, cell, strict=True) if b == target) + "|"
        for target in (1, 2, 3)
    )
    assert SPACE.parse(written) == cell == SPACE.parse(cell.hex()) == SPACE.parse(f" {written}\n")


def test_a_published_string():
    assert SPACE.parse(KNOWN) == bytes([3, 3, 4, 1, 3, 1])
    assert SPACE.text(SPACE.parse(KNOWN)) == KNOWN


@pytest.mark.parametrize(
    "text",
    ["|", "||+||+||", KNOWN[:-1], KNOWN + "+|none~0|", KNOWN.replace("~0", "~1"), KNOWN.replace("skip", "slip"),
     "|" * 300, KNOWN + " " * 10 + "|", "0000000000", "050000000000", KNOWN.replace("~2", "~２")],
)  # fmt: skip
def test_bad_strings_are_refused(text):
    with pytest.raises(InvalidGenotype) as caught:
        SPACE.parse(text)
    assert str(caught.value).endswith(".")


@settings(deadline=None, print_blob=True)
@given(GENOTYPES, st.randoms(use_true_random=False))
def test_neighbours_are_canonical(cell, rng):
    origin, near = SPACE.canonical(cell), SPACE.neighbours(cell)
    assert origin not in near and len(near) == len(set(near))
    assert all(SPACE.canonical(other) == other for other in near)
    assert SPACE.mutate(cell, rng) in near


def test_every_prefix_of_two_genes_holds_something_to_train():
    kept = {cell[:2] for cell, chosen in classes().admitted.items() if cell == chosen and live_edges(cell)}
    assert len(kept) == 25


def test_samples_are_uniform_over_the_distinct_cells():
    rng = random.Random(3)
    found = [SPACE.sample(rng) for _ in range(2000)]
    assert all(SPACE.canonical(cell) == cell for cell in found) and len(set(found)) > 1600


def test_cost_worked_out_by_hand():
    # Only edge 0-3, a 1x1 convolution. On 4 x 4 x 1 with 2 classes, in weights: stem 72; cells 64 + 256 + 1024;
    # reductions 9 * 8 * 16 + 9 * 16 * 16 + 8 * 16 and four times that; linear layer 64.
    cell = classes().admitted[SPACE.canonical(bytes([0, 0, 0, 2, 0, 0]))]
    assert len(live_edges(cell)) <= 2
    cost = SPACE.cost(cell, InputShape(4, 4, 1, 2))
    assert cost.parameters == 72 + (64 + 256 + 1024) + 5 * (1152 + 2304 + 128) + 64


@pytest.mark.parametrize("seed", range(3))
def test_training_is_that_of_the_definition(seed):
    rng = random.Random(seed)
    shape = InputShape(rng.randint(4, 7), rng.randint(4, 7), 1, 3)
    dataset, recipe = random_dataset(rng, shape), Recipe(steps=2, batch=3, segments=1)
    while True:
        try:
            graph = SPACE.decode(SPACE.sample(rng), shape)
        except InvalidGenotype:
            continue
        break
    start = initial_state(graph, b"s")
    fast = run_segment(graph, dataset, recipe, b"s", start, 0)
    assert fast.digest() == reference.run_segment(graph, dataset, recipe, b"s", start).digest()


def test_maps_that_are_too_small_or_deep_are_refused():
    good = classes().admitted[SPACE.canonical(SPACE.parse(KNOWN))]
    for shape in (InputShape(1, 1, 30, 2), InputShape(8, 8, 200, 2), InputShape(2, 2, 1, 2)):
        with pytest.raises(InvalidGenotype):
            SPACE.decode(good, shape)
    for height, width in ((3, 3), (3, 9), (28, 28), (5, 4)):
        SPACE.decode(good, InputShape(height, width, 3, 5))
