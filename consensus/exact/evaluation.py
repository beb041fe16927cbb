"""Exact evaluation: how many samples a model predicts, whatever the device and the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from consensus.exact.inference import Inference
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


def logits(
    graph: Graph, model: Model, samples: np.ndarray, device: str = "cpu", batch: int = 256
) -> Iterator[tuple[int, Tensor]]:
    """Logits of the samples, batch by batch: where the batch starts, and integers as floats, (batch, classes).

    `samples`: uint8 or int8 (count, height, width, channels). The logits of a sample do not depend on the others.
    `batch` is lowered for large networks, to bound memory. Raises ValueError if the samples do not fit the graph.
    """
    first, count = graph.nodes[0], len(samples)
    if samples.shape[1:] != (first.height, first.width, first.channels):
        raise ValueError("The samples do not have the shape that the network was decoded for.")
    if count == 0:
        return
    parts = -(-count // max(1, min(batch, MAX_ELEMENTS // widest(graph))))
    size = -(-count // parts)
    inference = Inference(graph, model, device, samples.dtype == np.int8, size)
    for start in range(0, count, size):
        begin = min(start, count - size)  # the last batch is as long as the others: that spares preparations
        with torch.inference_mode():  # not around the yield: it would hold for whoever asks for the next batch
            found = inference.logits(samples[begin : begin + size])[start - begin :]
        yield start, found


def evaluate(
    graph: Graph, model: Model, samples: np.ndarray, labels: np.ndarray, device: str = "cpu", batch: int = 256
) -> int:
    """Number of samples whose true class has a logit strictly greater than every other. See `logits`.

    `labels`: (count,). Raises ValueError if the samples or labels do not fit the graph.
    """
    if len(samples) != len(labels):
        raise ValueError("There is not one label for each sample.")
    if len(labels) and int(labels.max()) >= graph.classes:
        raise ValueError("A label is not below the number of classes.")
    wide, correct = torch.from_numpy(labels.astype(np.int64)), []
    for start, found in logits(graph, model, samples, device, batch):
        truth = wide[start : start + len(found)].to(found.device).view(-1, 1)
        right = found.gather(1, truth)
        others = found.scatter(1, truth, float("-inf")).amax(dim=1, keepdim=True)
        correct.append((right > others).sum())
    return int(sum(correct))
