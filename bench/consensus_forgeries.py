"""Ways to claim a training that did not take place as the recipe has it. Each gives leaves and a model that decodes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np

from consensus.exact import Candidate, Recipe, State, content_id, initial_state, quantise, run_segment, train

Claim = tuple[tuple[bytes, ...], bytes]
"""Leaves and the model's bytes."""
Forgery = Callable[[Candidate, random.Random], Claim]


def honest(candidate: Candidate) -> Claim:
    """What the rules ask for."""
    done = train(candidate.graph, candidate.dataset, candidate.recipe, candidate.seed)
    return done.leaves, done.model


def trained_on_test(candidate: Candidate, rng: random.Random) -> Claim:
    """The test samples are trained on, too."""
    data = candidate.dataset
    both = dataclasses.replace(
        data.train,
        samples=np.concatenate([data.train.samples, data.test.samples]),
        labels=np.concatenate([data.train.labels, data.test.labels]),
    )
    return honest(dataclasses.replace(candidate, dataset=dataclasses.replace(data, train=both)))


def skipped_segment(candidate: Candidate, rng: random.Random) -> Claim:
    """One segment is not trained, only its steps are counted."""
    skipped = rng.randrange(1, candidate.recipe.segments)

    def advance(state: State, index: int) -> State:
        if index == skipped:
            return dataclasses.replace(state, step=state.step + candidate.recipe.segment_steps)
        return _segment(candidate, candidate.recipe, state, index)

    return _by_segments(candidate, advance)


def wrong_seed(candidate: Candidate, rng: random.Random) -> Claim:
    """Another seed: initial weights and order of the data."""
    return honest(dataclasses.replace(candidate, seed=rng.randbytes(32)))


def edited_weights(candidate: Candidate, rng: random.Random) -> Claim:
    """An honest training, but a weight of the final model is changed by one."""
    leaves, model = honest(candidate)
    edited = bytearray(model)
    place = rng.choice([i for i in range(len(model) - 200, len(model)) if model[i]])
    edited[place] = edited[place] - 1 if edited[place] < 128 else edited[place] + 1 & 255  # toward 0: exact as before
    return (*leaves[:-1], content_id(bytes(edited))), bytes(edited)


def swapped_leaves(candidate: Candidate, rng: random.Random) -> Claim:
    """An honest training whose leaves are told in another order."""
    leaves, model = honest(candidate)
    one, two = rng.sample(range(len(leaves) - 1), 2)
    told = list(leaves)
    told[one], told[two] = told[two], told[one]
    return tuple(told), model


def fewer_steps(candidate: Candidate, rng: random.Random) -> Claim:
    """Of every segment only the first half is trained, and the rest of its steps is counted."""
    recipe = candidate.recipe
    halves = dataclasses.replace(recipe, segments=2 * recipe.segments)

    def advance(state: State, index: int) -> State:
        half = _segment(candidate, halves, state, 2 * index)
        return dataclasses.replace(half, step=(index + 1) * recipe.segment_steps)

    return _by_segments(candidate, advance)


def other_recipe(candidate: Candidate, rng: random.Random) -> Claim:
    """Another learning rate or batch."""
    recipe = candidate.recipe
    other: Recipe = rng.choice([
        dataclasses.replace(recipe, learning_rate=recipe.learning_rate // 2),
        dataclasses.replace(recipe, batch=2 * recipe.batch),
    ])  # fmt: skip
    return honest(dataclasses.replace(candidate, recipe=other))


def another_task(candidate: Candidate, rng: random.Random) -> Claim:
    """A model of a task with the same shape and other data: here, labels in another order."""
    data = candidate.dataset
    names = np.array(rng.sample(range(data.shape.classes), data.shape.classes), dtype=np.uint16)
    other = dataclasses.replace(data.train, labels=names[data.train.labels])
    return honest(dataclasses.replace(candidate, dataset=dataclasses.replace(data, train=other)))


def _segment(candidate: Candidate, recipe: Recipe, state: State, index: int) -> State:
    return run_segment(candidate.graph, candidate.dataset, recipe, candidate.seed, state, index)


def _by_segments(candidate: Candidate, advance: Callable[[State, int], State]) -> Claim:
    state = initial_state(candidate.graph, candidate.seed)
    leaves = [state.digest()]
    for index in range(candidate.recipe.segments):
        state = advance(state, index)
        leaves.append(state.digest())
    model = quantise(state, candidate.graph).encode()
    return (*leaves, content_id(model)), model


FORGERIES: dict[str, Forgery] = {
    forgery.__name__: forgery
    for forgery in (
        trained_on_test,
        skipped_segment,
        wrong_seed,
        edited_weights,
        swapped_leaves,
        fewer_steps,
        other_recipe,
        another_task,
    )
}
