"""Exact evaluation: how many samples a model predicts, whatever the device and the batch."""

from __future__ import annotations

import numpy as np
import torch

from consensus.exact.engine import Engine
from consensus.exact.model import Model
from consensus.spaces.graph import Graph


def evaluate(
    graph: Graph, model: Model, samples: np.ndarray, labels: np.ndarray, device: str = "cpu", batch: int = 256
) -> int:
    """Number of samples whose true class has a logit strictly greater than every other.

    `samples`: uint8 or int8 (count, height, width, channels). `labels`: (count,). Every sample carries exponents of its
    own, so the prediction for it does not depend on the others.
    """
    engine = Engine(graph, device, lazy=True)
    with torch.inference_mode():
        weights = engine.load(model)
        correct = torch.zeros((), dtype=torch.int64, device=engine.device)
        for start in range(0, len(samples), batch):
            chosen = engine.tensor(samples[start : start + batch])
            done = engine.forward(chosen, 0, weights, per_sample=True)
            logits = done.values[-1].flatten(1)
            truth = torch.from_numpy(labels[start : start + batch].astype(np.int64)).to(engine.device).view(-1, 1)
            right = logits.gather(1, truth)
            others = logits.scatter(1, truth, float("-inf")).amax(dim=1, keepdim=True)
            correct += (right > others).sum()
        return int(correct)
