"""CUDA graphs: the kernels of a step are recorded once and from then on launched together.

A step of a small network is hundreds of kernels of some microseconds each; one by one, launching takes longer than
running them. Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

WARM_UP = 2
"""Calls before the recording, on the same stream: libraries set themselves up and constants reach the device."""


class Replayed:
    """`step`, recorded on `stream` after `WARM_UP` calls; called like it, with inputs of the same shapes, inside
    `torch.cuda.stream(stream)`.

    Each recording has memory of its own, so several may run side by side. Where recording fails, `step` goes on being
    called; results are the same.
    """

    def __init__(self, step: Callable[..., None], stream: torch.cuda.Stream) -> None:
        self._step, self._stream = step, stream
        self._warm_up = WARM_UP
        self._inputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> None:
        """Launch the step; returns before it is done."""
        self._warm_up -= 1
        if self._warm_up == -1:
            self._record(inputs)
        if self._graph is None:
            self._step(*inputs)
            return
        for recorded, given in zip(self._inputs, inputs, strict=True):
            recorded.copy_(given)
        self._graph.replay()

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Recording runs nothing. Only what this thread does may spoil it: others may use the device meanwhile."""
        graph, places = torch.cuda.CUDAGraph(), tuple(part.clone() for part in inputs)
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._step(*places)
        except RuntimeError as error:
            _tell(str(error).split("\n", 1)[0])
        else:
            self._graph, self._inputs = graph, places


@lru_cache(maxsize=8)
def _tell(reason: str) -> None:
    logger.warning("A training step could not be recorded as a CUDA graph (%s); it runs kernel by kernel.", reason)
