"""One-shot search: shared weights from sampled cells, probabilities by gradient, and a ranking by the shared weights.

The weights learn on sampled cells, as in ENAS (Pham et al., arXiv 1802.03268), from the training split. The probability
of each operation on each edge is a softmax that is learned on the validation split through the mixture of all
operations, as in DARTS (Liu et al., arXiv 1806.09055, first order). For the first half, cells are sampled uniformly, so
that all weights are learned; then by the probabilities. In the end more are drawn, and evaluated with the shared
weights on the validation split. Nothing here is exact: the ranking only proposes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from consensus.datasets import Dataset, Split
from consensus.spaces.cells import EDGES, OPERATIONS
from consensus.spaces.nb201 import NB201V1
from consensus.types import TaskSpec
from ponas_node.supernet.network import Supernet, mixture, path
from pool.subspace import Domain

PIXELS = 1 << 19
"""In all samples that are evaluated together, where that is at least 16; bounds memory."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Steps of the shared weights, samples a step, and how many cells are evaluated on how many samples in the end.

    `seconds` of processor time are an upper bound: half of them for the weights, the rest for evaluations.
    """

    steps: int = 800
    batch: int = 64
    candidates: int = 512
    samples: int = 512
    rate: float = 0.05
    mixture_rate: float = 0.02
    mixture_every: int = 4
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A cell and its cross entropy with shared weights on the validation split."""

    cell: bytes
    loss: float


def usual_budget(spec: TaskSpec) -> Budget:
    """The usual budget, with fewer samples at a time where they are large."""
    pixels = spec.height * spec.width
    return Budget(batch=max(4, min(64, PIXELS // 4 // pixels)), samples=max(16, min(512, PIXELS // pixels)))


def admitted(spec: TaskSpec) -> list[bytes]:
    """All cells that the task admits. Raises ValueError where its search space has no cells, or it admits none."""
    if spec.space != NB201V1.name:
        raise ValueError(f"there is a supernet of {NB201V1.name} only, not of {spec.space}")
    found = list(Domain(spec).admitted())
    if not found:
        raise ValueError(f"the task {spec.name!r} admits no architecture")
    return found


def search(
    dataset: Dataset, cells: Sequence[bytes], seed: int, budget: Budget | None = None
) -> Generator[int, None, list[Ranked]]:
    """Rank `cells` (at least one), best first; yields the number of steps done. Torch's own generator is left alone."""
    run, spent = _Run(dataset, cells, seed, budget or Budget()), 0.0
    for step in range(run.budget.steps):
        start = time.thread_time()
        run.learn_weights(step)
        if step % run.budget.mixture_every == 0:
            run.learn_mixture()
        spent += time.thread_time() - start
        yield step + 1
        if spent > run.budget.seconds / 2:
            break
    found = []
    for cell in run.drawn():
        start = time.thread_time()
        found.append(Ranked(cell, run.loss(cell)))
        spent += time.thread_time() - start
        yield run.budget.steps
        if spent > run.budget.seconds:
            break
    return sorted(found, key=lambda ranked: (ranked.loss, ranked.cell))


class _Run:
    def __init__(self, dataset: Dataset, cells: Sequence[bytes], seed: int, budget: Budget) -> None:
        self.budget, self._cells = budget, list(cells)
        self._rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = Supernet(dataset.shape)
        self._mean, self._deviation = dataset.train.samples.mean(), dataset.train.samples.std() + 1e-6
        self._train, self._validation = self._prepared(dataset.train), self._prepared(dataset.validation)
        self._logits = torch.zeros(len(EDGES), len(OPERATIONS), requires_grad=True)
        self._genes = torch.tensor([list(cell) for cell in self._cells])
        self._optimiser = torch.optim.SGD(
            self._net.parameters(), budget.rate, momentum=0.9, nesterov=True, weight_decay=3e-4
        )
        self._mixer = torch.optim.Adam([self._logits], budget.mixture_rate, betas=(0.5, 0.999))

    def learn_weights(self, step: int) -> None:
        """One step of the shared weights on a sampled cell."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.budget.rate * (1 + math.cos(math.pi * step / self.budget.steps)) / 2
        warm = 2 * step < self.budget.steps
        chances = None if warm else self._chances().softmax(0).numpy()
        cell = self._cells[self._rng.choice(len(self._cells), p=chances)]
        samples, labels = self._batch(self._train)
        self._optimiser.zero_grad()
        functional.cross_entropy(self._net(samples, path(cell)), labels).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), 5.0)
        self._optimiser.step()

    def learn_mixture(self) -> None:
        """One step of the probabilities."""
        samples, labels = self._batch(self._validation)
        loss = functional.cross_entropy(self._net(samples, mixture(self._logits.softmax(1))), labels)
        self._mixer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._mixer.step()

    def drawn(self) -> list[bytes]:
        """The cells to evaluate: drawn by their probabilities, without repetition."""
        keys = self._chances().numpy() + self._rng.gumbel(size=len(self._cells))
        return [self._cells[index] for index in np.argsort(-keys, kind="stable")[: self.budget.candidates]]

    def loss(self, cell: bytes) -> float:
        """Cross entropy of a cell with the shared weights, on the first validation samples."""
        samples, labels = (part[: self.budget.samples] for part in self._validation)
        with torch.inference_mode():
            return float(functional.cross_entropy(self._net(samples, path(cell)), labels))

    def _chances(self) -> Tensor:
        """Logarithm of each cell's probability, up to a constant."""
        with torch.no_grad():
            return self._logits.double().log_softmax(1)[torch.arange(len(EDGES)), self._genes].sum(1)

    def _prepared(self, split: Split) -> tuple[Tensor, Tensor]:
        samples = (split.samples.astype(np.float32) - self._mean) / self._deviation
        moved = torch.from_numpy(samples.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
        return moved, torch.from_numpy(split.labels.astype(np.int64))

    def _batch(self, split: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        picked = torch.from_numpy(self._rng.integers(0, len(split[1]), self.budget.batch))
        return split[0][picked], split[1][picked]
