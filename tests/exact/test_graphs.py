"""The step as a recording: a recorded step with other contents of its tensors gives what the step itself gives."""

import logging
import random
from contextlib import contextmanager

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from consensus.exact import Candidate, Recipe, graphs, initial_state, run_segment
from consensus.exact.engine import Engine
from consensus.exact.streams import dither_start
from consensus.exact.training import Trainer, finish
from consensus.spaces import InputShape
from tests.exact.helpers import random_dataset, random_graph, random_shape

SPACES = ["stages-v1", "nb201-v1", "mlp-v1"]
RECIPE = Recipe(steps=12, batch=5, segments=2)


def parts(step):
    """Every tensor that a step reads or writes besides its inputs."""
    state, data = step.state, step.data
    return [state.weights, state.momentum, state.running, data.samples, data.labels]


@pytest.mark.parametrize("name", SPACES)
def test_nothing_of_the_data_is_part_of_a_recorded_step(name):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    shape = InputShape(8, 8, rng.randint(1, 3), rng.randint(2, 11)) if name == "nb201-v1" else random_shape(rng)
    graph, other = random_graph(rng, shape, 400_000, name), random_dataset(rng, shape)
    trainer = Trainer(Candidate(graph, random_dataset(rng, shape), RECIPE, rng.randbytes(8)), "cpu")
    eager = Trainer(Candidate(graph, other, RECIPE, b"other"), "cpu").step
    for step in (trainer.step, eager):
        step.engine = Engine(graph, "cpu", lazy=True)

    def inputs():
        start = dither_start(rng.randbytes(4), 1)
        chosen = torch.tensor([rng.randrange(len(other.train)) for _ in range(RECIPE.batch)])
        return chosen, trainer.table[start : start + trainer.span], torch.tensor(float(rng.randint(1, 1 << 15)))

    def function(weights, momentum, running, samples, labels, *given):
        state, data = trainer.step.state, trainer.step.data
        state.weights, state.momentum, state.running, data.samples, data.labels = (
            weights, momentum, running, samples, labels,
        )  # fmt: skip
        trainer.step(*given)
        return ()

    trainer.state.write(initial_state(graph, b"recorded"))
    with torch.no_grad():
        trainer.step(*inputs(), first=True)
        recorded = make_fx(function)(*[part.clone() for part in parts(trainer.step)], *inputs())
        eager.state.write(initial_state(graph, rng.randbytes(4)))
        eager(*inputs(), first=True)
        copies = [part.clone() for part in parts(eager)]
        for _ in range(4):
            given_now = inputs()
            eager(*given_now)
            recorded(*copies, *given_now)
            assert all(torch.equal(*pair) for pair in zip(copies, parts(eager), strict=True))


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on the CPU: operations on fixed tensors, recorded without effect, run by `replay`."""

    def __init__(self):
        super().__init__()
        self.made, self.before, self.operations = set(), [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.__name__.split(".")[0] not in ("item", "_local_scalar_dense", "nonzero", "is_nonzero")
        kwargs, changes = kwargs or {}, func._schema.is_mutable
        known = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        places = {leaf.untyped_storage().data_ptr() for leaf in known}
        if changes:
            self.before += [
                (leaf, leaf.clone()) for leaf in known if leaf.untyped_storage().data_ptr() not in self.made
            ]
        out = func(*args, **kwargs)
        new = [leaf for leaf in tree_leaves(out) if leaf.untyped_storage().data_ptr() not in places]
        self.made |= {leaf.untyped_storage().data_ptr() for leaf in new}
        if changes or new:
            self.operations.append((func, args, kwargs, tree_leaves(out) if new else []))
        return out

    def __exit__(self, *args):
        super().__exit__(*args)
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    def replay(self):
        for func, args, kwargs, out in self.operations:
            again = tree_leaves(func(*args, **kwargs))
            for old, new in zip(out, again if out else [], strict=True):
                old.copy_(new)


@contextmanager
def taped(tape, stream, capture_error_mode):
    with tape:
        yield


@pytest.fixture
def tapes(monkeypatch):
    """Stands in for CUDA's graphs; the tapes that were made."""
    made = []

    def tape():
        made.append(Tape())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", tape)
    monkeypatch.setattr(torch.cuda, "graph", taped)
    return made


def recording_trainer(candidate):
    trainer = Trainer(candidate, "cpu")
    trainer.step.engine = Engine(candidate.graph, "cpu", lazy=True)
    trainer.launch = graphs.Replayed(trainer.step, None)
    return trainer


@pytest.mark.parametrize("name", SPACES)
def test_recorded_trainings_are_those_of_every_step_alone(tapes, name):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    shape = InputShape(8, 8, 2, 5)
    candidate = Candidate(random_graph(rng, shape, 400_000, name), random_dataset(rng, shape), RECIPE, rng.randbytes(8))
    trainer, state = recording_trainer(candidate), initial_state(candidate.graph, candidate.seed)
    for index in range(RECIPE.segments):
        truth = run_segment(*(getattr(candidate, n) for n in ("graph", "dataset", "recipe", "seed")), state, index)
        state = finish(trainer.run(state, index))
        assert state.encode() == truth.encode()
    assert len(tapes) == 1 and len(tapes[0].operations) > 20
    late = recording_trainer(candidate)  # from the second segment on: no step 0
    middle = run_segment(
        candidate.graph, candidate.dataset, RECIPE, candidate.seed, initial_state(candidate.graph, candidate.seed), 0
    )
    assert finish(late.run(middle, 1)).encode() == state.encode()
    assert len(tapes) == 2


def test_where_recording_fails_the_step_itself_goes_on(tapes, monkeypatch, caplog):
    rng = random.Random(5)
    shape = random_shape(rng)
    candidate = Candidate(random_graph(rng, shape), random_dataset(rng, shape), RECIPE, b"key")
    start = initial_state(candidate.graph, b"key")
    truth = run_segment(candidate.graph, candidate.dataset, RECIPE, b"key", start, 0)

    def fails(self, *inputs):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(Tape, "__enter__", fails)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert finish(recording_trainer(candidate).run(start, 0)).digest() == truth.digest()
    assert len(tapes) == 2
    assert [record.message.count("not permitted") for record in caplog.records] == [1]
    graphs._tell.cache_clear()


def test_what_reads_a_value_back_cannot_be_recorded(tapes):
    rng = random.Random(6)
    shape = random_shape(rng)
    candidate = Candidate(random_graph(rng, shape), random_dataset(rng, shape), RECIPE, b"key")
    trainer = recording_trainer(candidate)
    trainer.step.engine = Engine(candidate.graph, "cpu", lazy=False)
    with pytest.raises(AssertionError):
        finish(trainer.run(initial_state(candidate.graph, b"key"), 0))


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
@pytest.mark.parametrize("name", SPACES)
def test_on_cuda_recorded_steps_are_those_of_the_cpu(name, monkeypatch):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    shape = InputShape(8, 8, 2, 5)
    graph, dataset = random_graph(rng, shape, 400_000, name), random_dataset(rng, shape)
    start = initial_state(graph, b"key")
    truth = run_segment(graph, dataset, RECIPE, b"key", start, 0).digest()
    trainer = Trainer(Candidate(graph, dataset, RECIPE, b"key"), "cuda")
    assert finish(trainer.run(start, 0)).digest() == truth
    assert trainer.launch._graph is not None
    monkeypatch.setattr(graphs, "WARM_UP", 1 << 30)
    assert run_segment(graph, dataset, RECIPE, b"key", start, 0, "cuda").digest() == truth
