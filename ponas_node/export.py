"""Trained models in formats of other tools. The numbers stay the integers of exact evaluation.

`safetensors`: by node of the graph, `node3.weight` int8 (rows, channels); for all layers but the last `node3.bias`
int32 and `node3.shift` uint8 by channel: (sum of products + bias) / 2^shift, to the nearest integer, halves to even,
from -127 to 127. The metadata hold the genotype, from which `ponas` rebuilds the graph. `onnx`: see `export_onnx`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from consensus.exact.model import Model
from consensus.exact.plan import plan
from consensus.spaces import get_space
from consensus.spaces.graph import Graph

BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model and what it is: `sample_kind` is "uint8" or "int8"; `task` is the task's name."""

    task: str
    space: str
    genotype: bytes
    graph: Graph
    model: Model
    sample_kind: str

    @property
    def facts(self) -> dict[str, str]:
        """What stands in the metadata of an exported file."""
        return {
            "task": self.task,
            "space": self.space,
            "genotype": self.genotype.hex(),
            "architecture": get_space(self.space).text(self.genotype),
            "samples": self.sample_kind,
            "classes": str(self.graph.classes),
        }


def to_safetensors(trained: Trained) -> bytes:
    """The safetensors file. Raises ImportError where safetensors is missing."""
    from safetensors.numpy import save

    graph, model, fixed = trained.graph, trained.model, plan(trained.graph)
    tensors: dict[str, np.ndarray] = {}
    for index, layer in zip(graph.weight_shapes, model.layers, strict=True):
        tensors[f"node{index}.weight"] = np.ascontiguousarray(layer.weights)
        if index in fixed.shifts:
            tensors[f"node{index}.bias"] = np.ascontiguousarray(layer.biases)
            tensors[f"node{index}.shift"] = np.ascontiguousarray(layer.shifts)
    facts = {**trained.facts, "logit_exponent": model.exponent}
    return bytes(save(tensors, {"ponas": json.dumps(facts, sort_keys=True)}))


def to_onnx(trained: Trained) -> bytes:
    """The ONNX file. Raises ImportError where onnx is missing."""
    from ponas_node import export_onnx

    return export_onnx.to_onnx(trained.graph, trained.model, trained.sample_kind, trained.facts)


def exact_logits(graph: Graph, model: Model, samples: np.ndarray) -> np.ndarray:
    """The logits of exact evaluation on the CPU, int64 (samples, classes)."""
    from consensus.exact import logits

    return np.concatenate([part.numpy().astype(np.int64) for _, part in logits(graph, model, samples)])


def predictions(logits: np.ndarray) -> np.ndarray:
    """The class whose logit is greater than every other, -1 where two share the maximum; int64 (samples,)."""
    alone = (logits == logits.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(alone, logits.argmax(axis=1), -1)


def run_onnx(data: bytes, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and predictions of an exported model, by ONNX Runtime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["logits", "prediction"], {"samples": samples[start : start + BATCH]})
        for start in range(0, len(samples), BATCH)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def differences(trained: Trained, data: bytes, samples: np.ndarray) -> int:
    """How many samples the ONNX file `data` does not treat exactly as exact evaluation does, logits included."""
    wanted = exact_logits(trained.graph, trained.model, samples)
    logits, predicted = run_onnx(data, samples)
    return int(((logits != wanted).any(axis=1) | (predicted != predictions(wanted))).sum())
