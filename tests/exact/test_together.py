"""Several trainings side by side: each gives what it gives alone, whatever becomes of the others."""

import gc
import random

import pytest
import torch

from consensus.exact import Candidate, Recipe, Stopped, train, train_stepwise, train_together
from consensus.exact.engine import Engine
from consensus.exact.step import TrainingData
from consensus.spaces import InputShape
from tests.exact.helpers import random_dataset, random_graph, random_shape

RECIPES = [Recipe(4, 6, 2), Recipe(6, 3, 1), Recipe(3, 20, 3, 100)]


@pytest.fixture
def rng():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def some(rng, count=4):
    """Candidates with and without a data set, a recipe and a seed in common."""
    shape = random_shape(rng)
    data, seeds = [random_dataset(rng, shape) for _ in range(2)], [b"one", b"two"]
    return [
        Candidate(random_graph(rng, shape), rng.choice(data), rng.choice(RECIPES), rng.choice(seeds))
        for _ in range(count)
    ]


def alone(candidate, device="cpu"):
    return train(candidate.graph, candidate.dataset, candidate.recipe, candidate.seed, device)


def test_neighbours_and_their_order_do_not_matter(rng):
    candidates = some(rng)
    truth = [alone(candidate) for candidate in candidates]
    steps = [[] for _ in candidates]
    assert train_together(candidates, on_step=lambda place, step: steps[place].append(step)) == truth
    assert steps == [list(range(1, candidate.recipe.steps + 1)) for candidate in candidates]
    order = rng.sample(range(len(candidates)), len(candidates))
    assert train_together([candidates[place] for place in order]) == [truth[place] for place in order]
    assert train_together([]) == []


def test_no_interleaving_matters(rng):
    candidates = some(rng, 3)
    runs, found = {place: train_stepwise(candidate) for place, candidate in enumerate(candidates)}, {}
    while runs:
        place = rng.choice(sorted(runs))
        assert not torch.is_inference_mode_enabled()
        try:
            next(runs[place])
        except StopIteration as end:
            found[place] = end.value
            del runs[place]
    assert [found[place] for place in range(3)] == [alone(candidate) for candidate in candidates]


def test_a_stop_or_a_failure_is_of_one_only(rng):
    candidates = some(rng)
    bad = Candidate(random_graph(rng, InputShape(12, 12, 1, 3)), candidates[0].dataset, RECIPES[0], b"")
    done = []
    results = train_together(
        [candidates[0], bad, *candidates[1:]],
        on_step=lambda place, step: done.append(place),
        should_stop=lambda place: place == 2 and done.count(2) == 2,
    )
    assert isinstance(results[1], ValueError) and isinstance(results[2], Stopped)
    assert done.count(1) == 0 and done.count(2) == 2
    assert [results[0], *results[3:]] == [alone(c) for c in (candidates[0], *candidates[2:])]


def test_what_a_callback_raises_ends_all(rng):
    def refuse(place, step):
        raise KeyError(place)

    with pytest.raises(KeyError):
        train_together(some(rng), on_step=refuse)
    gc.collect()
    assert not TrainingData._shared


def test_data_are_on_the_device_once_and_only_while_in_use(rng):
    candidate = some(rng, 1)[0]
    gc.collect()
    engine = Engine(candidate.graph, "cpu")
    runs = [train_stepwise(candidate) for _ in range(3)]
    assert all(next(run) == 1 for run in runs)
    [data] = TrainingData._shared.values()
    assert TrainingData.of(candidate.dataset, engine) is data
    assert TrainingData.of(candidate.dataset, Engine(candidate.graph, "cpu64")) is not data
    del data
    for run in runs:
        run.close()
    assert not TrainingData._shared


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_side_by_side_on_cuda_is_alone_on_the_cpu(rng):
    candidates = [
        Candidate(c.graph, c.dataset, Recipe(c.recipe.steps * 5, c.recipe.batch, c.recipe.segments), c.seed)
        for c in some(rng)
    ]
    truth = [alone(candidate) for candidate in candidates]
    assert train_together(candidates, "cuda") == truth
    assert [alone(candidate, "cuda") for candidate in candidates] == truth
    stopped = train_together(candidates, "cuda", should_stop=lambda place: place == 1)
    assert isinstance(stopped[1], Stopped) and [*stopped[:1], *stopped[2:]] == [*truth[:1], *truth[2:]]
