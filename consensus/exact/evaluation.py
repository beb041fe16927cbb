"""Exact evaluation: how many samples a model predicts, whatever the device and the batch."""

from __future__ import annotations

import numpy as np
import torch

from consensus.exact.engine import Engine
from consensus.exact.model import Model
from consensus.spaces.graph import Graph

MAX_ELEMENTS = 1 << 25
"""No tensor of an evaluation has more elements (but for a single sample that needs more): 128 MiB of float32."""


def widest(graph: Graph) -> int:
    """Elements per sample of the largest tensor of a forward pass, gathered windows included."""
    found = 1
    for index, node in enumerate(graph.nodes):
        shape = graph.weight_shape(index)
        rows = shape[0] if shape is not None and node.kind == "conv" else 1
        found = max(found, node.height * node.width * max(node.channels, rows))
    return found


def evaluate(
    graph: Graph, model: Model, samples: np.ndarray, labels: np.ndarray, device: str = "cpu", batch: int = 256
) -> int:
    """Number of samples whose true class has a logit strictly greater than every other.

    `samples`: uint8 or int8 (count, height, width, channels). `labels`: (count,). The prediction for a sample does not
    depend on the others. `batch` is lowered for large networks, to bound memory.
    Raises ValueError if the samples or labels do not fit the graph.
    """
    first = graph.nodes[0]
    if samples.shape != (len(labels), first.height, first.width, first.channels):
        raise ValueError("The samples do not have the shape that the network was decoded for.")
    if len(labels) and int(labels.max()) >= graph.classes:
        raise ValueError("A label is not below the number of classes.")
    batch = max(1, min(batch, MAX_ELEMENTS // widest(graph)))
    engine = Engine(graph, device)
    with torch.inference_mode():
        weights, norms = engine.load(model)
        correct = torch.zeros((), dtype=torch.int64, device=engine.device)
        for start in range(0, len(samples), batch):
            chosen = engine.tensor(samples[start : start + batch])
            done = engine.forward(chosen, weights, norms)
            logits = done.values[-1].flatten(1)
            truth = torch.from_numpy(labels[start : start + batch].astype(np.int64)).to(engine.device).view(-1, 1)
            right = logits.gather(1, truth)
            others = logits.scatter(1, truth, float("-inf")).amax(dim=1, keepdim=True)
            correct += (right > others).sum()
        return int(correct)
