"""Writes the golden vectors: `python -m tests.exact.make_vectors`. docs/exact-training.md tells their format."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from consensus.datasets import Dataset, digits, encode_dataset
from consensus.exact import Recipe, decode_model, device, evaluate, reference, train
from consensus.exact.model import channel_scales, fold
from consensus.exact.reference import Scaled
from consensus.spaces import Node, get_space

FOLDER = Path(__file__).parent / "vectors"
TRAININGS = {
    "stages-residual": "010302050201010103030200000002",  # conv5-24 | stride: 2 x res3-16 | mean: 1 x conv3-24 | ...
    "stages-separable": "000203070302010201030100050001",  # conv3-16 | max: 3 x ressep5-24 | mean: 1 x conv5-12 | ...
    "stages-strided": "000002060000020402030101030100",  # conv3-8 | 2 x ressep3-8 | mean: 2 x sep5-16 | ...
}


def training(genotype: bytes, dataset: Dataset, recipe: Recipe, seed: bytes, inline: bool) -> dict[str, Any]:
    """One whole training and the number of test samples that its model predicts."""
    graph = get_space("stages-v1").decode(genotype, dataset.shape)
    result = train(graph, dataset, recipe, seed)
    model = decode_model(result.model, graph)
    data = base64.b64encode(encode_dataset(dataset)).decode() if inline else None
    return {
        "format": "ponas/exact/training/1",
        "space": "stages-v1",
        "genotype": genotype.hex(),
        "dataset": dataset.name,
        "dataset_bytes": data,
        "recipe": {name: getattr(recipe, name) for name in ("steps", "batch", "segments", "learning_rate")},
        "seed": seed.hex(),
        "leaves": [leaf.hex() for leaf in result.leaves],
        "model_bytes": base64.b64encode(result.model).decode(),
        "test_correct": evaluate(graph, model, dataset.test.samples, dataset.test.labels),
    }


def listed(**arrays: np.ndarray | int | bool) -> dict[str, Any]:
    """Arrays as nested lists."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in arrays.items()}


def operations() -> list[dict[str, Any]]:
    """Inputs and outputs of the operations of `consensus.exact.reference`, worked out by it."""
    noise = np.random.default_rng(1)
    node = Node("conv", (0,), 2, 3, 3, (3, 3), (2, 2), 1)
    values, weights = noise.integers(-127, 128, (2, 4, 5, 2)), noise.integers(-127, 128, (18, 3))
    gradient = noise.integers(-127, 128, (2, 2, 3, 3))
    window = {"kernel": [3, 3], "stride": [2, 2], "pad": 1}
    back = reference.linear_input_gradient(gradient, weights, node, values)
    by_weights = reference.linear_weight_gradient(values, gradient, node)
    cases: list[dict[str, Any]] = [
        {"operation": "conv", **window, **listed(values=values, weights=weights, gradient=gradient),
         **listed(out=reference.linear(values, weights, node), input_gradient=back, weight_gradient=by_weights)}
    ]  # fmt: skip
    raw, dither = noise.integers(-(1 << 20), 1 << 20, 12), noise.integers(0, 256, 12)
    raw[:4] = [1 << 19, 255 << 12, -(3 << 12), 1 << 12]
    near, noisy = reference.to_bits(Scaled(raw, 0), 12), reference.requantise_dithered(Scaled(raw, 0), dither)
    cases.append({"operation": "to_12_bits", **listed(values=raw, out=near.values, exponent=near.exponent)})
    rounded = listed(values=raw, dither=dither, out=noisy.values, exponent=noisy.exponent)
    cases.append({"operation": "requantise_dithered", **rounded})
    small, fine = noise.integers(-127, 128, 12), noise.integers(-9000, 9001, 12)
    sums = reference.meet(Scaled(small, 3), Scaled(fine, -4))
    exponents = {"exponents": [3, -4]}
    met = listed(one=small, two=fine, out=sums.values, exponent=sums.exponent)
    cases.append({"operation": "meet", **exponents, **met})
    sums_in = noise.integers(-900, 2000, (3, 2, 2, 2))
    for relu in (False, True):
        batch = reference.batch_statistics(sums_in, 4)
        out = np.clip(reference.shift_nearest((sums_in - batch.means) * batch.scales, 24), -127, 127)
        out = np.maximum(out, 0) if relu else out
        arrived, thresholds = noise.integers(-4095, 4096, sums_in.shape), noise.integers(0, 256, sums_in.size)
        found = reference.normal_gradient(Scaled(arrived, 0), out, relu, 4, thresholds)
        step = listed(relu=relu, sums=sums_in, out=out, means=batch.means, parts=batch.parts, scales=batch.scales)
        by = listed(gradient=arrived, dither=thresholds, out_gradient=found.values, exponent=found.exponent)
        cases.append({"operation": "normalise", "target": 4, **step, **by})
    parts = np.array([256, 257, 1000, 65535, 1 << 23])
    cases.append({"operation": "scales", "target": 4, **listed(parts=parts, scales=channel_scales(parts, 4))})
    layer = fold(weights.astype(np.int8), np.array([900, -256, 5]), channel_scales(parts[2:], 4), 3, 127)
    found = reference.affine(reference.linear(np.abs(values), layer.weights.astype(np.int64), node), layer)
    folded = listed(weights=layer.weights, biases=layer.biases, shifts=layer.shifts)
    given = listed(weights=weights, means=np.array([900, -256, 5]), scales=channel_scales(parts[2:], 4))
    cases.append({"operation": "fold", "shift": 3, "limit": 127, **given, "layer": folded})
    cases.append({"operation": "affine", **window, "layer": folded, **listed(values=np.abs(values), out=found)})
    logits, labels = noise.integers(-4000, 4000, (4, 1, 1, 5)), np.array([0, 3, 4, 1])
    loss = reference.loss_gradient(Scaled(logits, -7), labels)
    cases.append({"operation": "loss_gradient", "exponent": -7, **listed(logits=logits, labels=labels, out=loss)})
    return cases


def write(name: str, content: object) -> None:
    """One file."""
    (FOLDER / f"{name}.json").write_text(json.dumps(content) + "\n")


def main() -> None:
    """All files."""
    write("operations", {"format": "ponas/exact/operations/1", "cases": operations()})
    for name, genotype in TRAININGS.items():
        recipe = Recipe(steps=16, batch=32, segments=2, learning_rate=640)
        write(f"training-{name}", training(bytes.fromhex(genotype), digits(), recipe, b"golden", inline=False))
    genotype = device.GOLDEN_GENOTYPE
    recipe, seed = device.GOLDEN_RECIPE, device.GOLDEN_SEED
    write("training-self-test", training(genotype, device.golden_data(), recipe, seed, inline=True))


if __name__ == "__main__":
    main()
