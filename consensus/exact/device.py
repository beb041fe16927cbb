"""Which device may compute: only one that gave the exact integers for vectors made to break inexact arithmetic.

Random vectors are not enough: library convolutions that are wrong passed them. So: the longest sums of the largest
values, sums that cancel from just below 2^24, 3x3 windows at stride 1, odd sizes, pools that overlap, maxima with
ties, blocks of a weight gradient, and a small training whose result is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from consensus.datasets import Dataset, Split
from consensus.exact import fast, normal, reference
from consensus.exact.engine import torch_device
from consensus.exact.inference import Inference
from consensus.exact.model import Model, quantise
from consensus.exact.recipe import NORMAL_TARGET, SCALE_BITS, Recipe
from consensus.exact.state import State, initial_state
from consensus.exact.training import run_segment
from consensus.spaces import get_space
from consensus.spaces.base import InputShape
from consensus.spaces.graph import EXACT, MAX_PRODUCTS, Graph, Kind, Node

logger = logging.getLogger(__name__)

GOLDEN = "940323c548773f442c2ad545098e934578c0bfad3cb57caba081733afacc7d8e"
"""Hash of the state after `golden_training`; `reference` gives it too (tests/exact/test_device.py)."""

GOLDEN_GENOTYPE = bytes([0, 0, 1, 5, 1, 1, 1, 4, 2, 2, 1, 6, 2, 0, 2])

Vector = tuple[str, Tensor, np.ndarray]


class InexactDevice(RuntimeError):
    """The device gave a wrong integer. The message names the device and the vector."""


def self_test(device: str) -> None:
    """Raise `InexactDevice` unless the device computes every vector exactly, or if it cannot be used at all."""
    try:
        for name, computed, expected in _vectors(device):
            if not np.array_equal(computed.double().cpu().numpy(), expected):
                raise InexactDevice(f"Device {device!r} is refused: it computed {name} inexactly.")
        digest = golden_training(device)
    except InexactDevice:
        raise
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
        reason = str(error).split("\n", 1)[0]
        raise InexactDevice(f"Device {device!r} is refused: it cannot be used ({reason}).") from error
    if digest != GOLDEN:
        raise InexactDevice(f"Device {device!r} is refused: the golden training gave {digest[:16]}, not {GOLDEN[:16]}.")


@lru_cache(maxsize=8)
def pick_device(name: str) -> str:
    """A device that passed the self-test, which runs once per process.

    `name`: "cpu", "cpu64" (float64 on the CPU), "cuda", "cuda:1", ... or "auto": the first of cuda, cpu, cpu64 that is
    there and passes. Raises `InexactDevice` if the named device fails, or every device does.
    """
    if name != "auto":
        self_test(name)
        return name
    refusal = InexactDevice("No device computes exactly.")
    for candidate in (["cuda"] if torch.cuda.is_available() else []) + ["cpu", "cpu64"]:
        try:
            self_test(candidate)
        except InexactDevice as error:
            logger.warning("%s Trying the next device.", error)
            refusal = error
        else:
            return candidate
    raise refusal


def golden_graph() -> Graph:
    """A small network with every kind of node, on 7 x 5 pixels of 2 channels."""
    return get_space("stages-v1").decode(GOLDEN_GENOTYPE, InputShape(7, 5, 2, 3))


def golden_data() -> Dataset:
    """40 samples from a formula, over the whole range of uint8."""
    raw = (np.arange(40 * 70, dtype=np.int64) ** 2 * 2654435761 >> 7) % 256
    split = Split(raw.astype(np.uint8).reshape(40, 7, 5, 2), (np.arange(40) % 3).astype(np.uint16))
    return Dataset("golden", InputShape(7, 5, 2, 3), split, split, split)


GOLDEN_RECIPE = Recipe(steps=6, batch=16, segments=1, learning_rate=640)
GOLDEN_SEED = b"ponas golden training"


def golden_training(device: str) -> str:
    """Hash of the state after six steps on the device, in hexadecimal digits."""
    graph = golden_graph()
    start = initial_state(graph, GOLDEN_SEED)
    return run_segment(graph, golden_data(), GOLDEN_RECIPE, GOLDEN_SEED, start, 0, device).digest().hex()


def _vectors(name: str) -> Iterator[Vector]:
    """(what it is, what the device computes, the truth), each small enough for a fraction of a second."""
    device, dtype = torch_device(name)

    def send(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.copy()).to(device).to(dtype)

    for rows, columns in ((1, 1), (33, 7), (257, 40)):
        left, right = np.full((rows, MAX_PRODUCTS), 127), np.full((MAX_PRODUCTS, columns), 127)
        yield f"{MAX_PRODUCTS} products of 127", torch.mm(send(left), send(right)), left @ right
        left, right = np.full((rows, MAX_PRODUCTS + 2), 127), np.full((MAX_PRODUCTS + 2, columns), 127)
        left[:, -1], right[-2:] = 7, [[24], [1]]  # 2^24 - 1: odd, so that its last bit must be there
        yield "a sum of 2^24 - 1", torch.mm(send(left), send(right)), left @ right
        # Up to just below 2^24 and back: a partial sum that was rounded leaves a trace in the small result.
        left, right = np.full((rows, 2 * MAX_PRODUCTS), 127), np.full((2 * MAX_PRODUCTS, columns), 127)
        left[:, 0], left[:, -1], right[MAX_PRODUCTS:] = 126, 125, -127
        yield "cancelling sums from just below 2^24", torch.mm(send(left), send(right)), left @ right
    yield from _convolutions(send)
    yield from _depthwise(send)
    yield from _pools(send)
    yield from _rounding(send)
    yield from _normalisation(send)
    yield "the logits of a model", _logits(name), reference.forward(golden_graph(), *_golden_model()).reshape(40, -1)


def _convolutions(send: Callable[[np.ndarray], Tensor]) -> Iterator[Vector]:
    """Height, width, kernel, stride, channels before and after, as networks use them."""
    shapes = (
        (7, 5, 3, 1, 40, 24),
        (8, 8, 3, 1, 32, 32),
        (9, 7, 5, 2, 40, 11),
        (5, 5, 1, 2, 3, 9),
        (16, 16, 3, 1, 8, 8),
    )
    for height, width, size, stride, before, after in shapes:
        out = -(-height // stride), -(-width // stride)
        node = Node("conv", (0,), *out, after, (size, size), (stride, stride), size // 2)
        values, gradient = _pattern((3, height, width, before), 1), _pattern((3, *out, after), 3)
        weights = _pattern((size * size * before, after), 2)
        x, w, g = send(values), send(weights), send(gradient)
        columns = fast.gather(x, node)
        what = f"a {size}x{size} convolution of {height} x {width} x {before}, stride {stride}"
        yield what, fast.conv(columns, w, node), reference.linear(values, weights, node)
        truth = reference.linear_weight_gradient(values, gradient, node)
        yield f"the weight gradient of {what}", fast.conv_weight_gradient(columns, g), truth
        truth = reference.linear_input_gradient(gradient, weights, node, values)
        yield f"the input gradient of {what}", fast.conv_input_gradient(g, w, node, x.shape), truth
    left, right = np.full((2 * MAX_PRODUCTS, 8), 127), np.full((2 * MAX_PRODUCTS, 8), -127)
    yield "a weight gradient of 2080 rows", fast.conv_weight_gradient(send(left), send(right)), left.T @ right


def _depthwise(send: Callable[[np.ndarray], Tensor]) -> Iterator[Vector]:
    """Height, width, kernel, stride, channels: gradients that are the forward pass turned round, and that are not."""
    for height, width, size, stride, channels in (
        (8, 8, 3, 1, 12),
        (7, 5, 5, 1, 40),
        (9, 7, 5, 2, 11),
        (4, 6, 3, 2, 3),
    ):
        out = -(-height // stride), -(-width // stride)
        node = Node("depthwise", (0,), *out, channels, (size, size), (stride, stride), size // 2)
        values, gradient = _pattern((3, height, width, channels), 1), _pattern((3, *out, channels), 3)
        weights = _pattern((size * size, channels), 2)
        x, w, g = send(values), send(weights), send(gradient)
        what = f"a {size}x{size} filter by channel of {height} x {width} x {channels}, stride {stride}"
        yield what, fast.depthwise(x, w, node), reference.linear(values, weights, node)
        truth = reference.linear_weight_gradient(values, gradient, node)
        yield f"the weight gradient of {what}", fast.depthwise_weight_gradient(x, g, node), truth
        truth = reference.linear_input_gradient(gradient, weights, node, values)
        yield f"the input gradient of {what}", fast.depthwise_input_gradient(g, w, node, x.shape), truth
    node = Node("depthwise", (0,), 16, 16, 2)
    values = np.full((9, 16, 16, 2), 127)
    values[-1, -1, -1] = 126  # the sum is odd and beyond 2^24: float32 alone cannot hold it
    truth = reference.linear_weight_gradient(values, values, node)
    computed = fast.depthwise_weight_gradient(send(values), send(values), node)
    yield "a weight gradient of 2304 products by channel", computed, truth


def _pools(send: Callable[[np.ndarray], Tensor]) -> Iterator[Vector]:
    """Kind, height, width, kernel, stride, padding: windows that overlap, that tile, and that leave pixels out."""
    shapes: tuple[tuple[Kind, int, int, int, int, int], ...] = (
        ("sum_pool", 8, 8, 3, 1, 1),
        ("sum_pool", 7, 5, 3, 2, 1),
        ("sum_pool", 9, 7, 2, 2, 0),
        ("max_pool", 8, 6, 2, 2, 0),
        ("max_pool", 7, 5, 2, 2, 0),
    )
    for kind, height, width, size, stride, padding in shapes:
        out = (height + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1
        node = Node(kind, (0,), *out, 12, (size, size), (stride, stride), padding)
        values, gradient = _pattern((3, height, width, 12), 1), _pattern((3, *out, 12), 3) * 129  # maxima with ties
        x, g, truth = send(values), send(gradient), reference.pool(values, node)
        what = f"a {kind} of {size} x {size} in {height} x {width}, stride {stride}"
        yield what, fast.pool(x, node), truth
        back = reference.pool_gradient(gradient, values, truth, node)
        yield f"the gradient of {what}", fast.pool_gradient(g, x, send(truth), node), back


def _rounding(send: Callable[[np.ndarray], Tensor]) -> Iterator[Vector]:
    edges = np.array([EXACT - 1, 0, 1, 65536, 196608, 327679, 8388608, 16711680, 16711681], dtype=np.int64)
    edges = np.concatenate([edges, -edges, 1 << np.arange(24)])  # powers of two: halves, whatever the shift
    for limit in (127, 128, 255, 256, 1000, 65535, 1 << 20, EXACT - 1):
        values = np.clip(edges, -limit, limit)
        dither = (np.arange(len(values)) * 85 + 255) % 256
        zero = torch.zeros((), dtype=torch.int32, device=send(values).device)
        raw = reference.Scaled(values, 0)
        near, noisy = reference.to_bits(raw, 12), reference.requantise_dithered(raw, dither)
        yield f"rounding of values up to {limit}", fast.to_bits(send(values), zero, 12)[0], near.values
        dithered = fast.requantise_dithered(send(values), zero, send(dither) / 256)[0]
        yield f"dithered rounding of values up to {limit}", dithered, noisy.values


def _golden_model() -> tuple[np.ndarray, Model]:
    """Samples and a model with biases and shifts of many sizes."""
    graph = golden_graph()
    start = initial_state(graph, GOLDEN_SEED)
    running = np.arange(len(start.running), dtype=np.int64) ** 2 * 40503 % 30000 - 3000
    state = State(start.weights, start.momentum, running.astype(np.int32), 0)
    return golden_data().train.samples, quantise(state, graph)


def _logits(name: str) -> Tensor:
    samples, model = _golden_model()
    return Inference(golden_graph(), model, name, signed=False, batch=len(samples)).logits(samples)


def _normalisation(send: Callable[[np.ndarray], Tensor]) -> Iterator[Vector]:
    """Sums of full length, halves, channels that are flat or have one value only, and gradients through them."""
    sums = _pattern((5, 7, 9, 6), 2) * 129
    sums[..., 1], sums[..., 2], sums[0, 0, 0, 2], sums[..., 3] = 0, -16384, 16384, sums[..., 3] // 5000
    arrived, dither = _pattern(sums.shape, 3) * 32 + 5, np.arange(sums.size) % 256
    for relu in (False, True):
        batch = reference.batch_statistics(sums, NORMAL_TARGET)
        truth = np.clip(reference.shift_nearest((sums - batch.means) * batch.scales, SCALE_BITS), -127, 127)
        truth = np.maximum(truth, 0) if relu else truth
        values, scales, means, parts = normal.normalise(send(sums), relu, NORMAL_TARGET)
        yield "the means of a batch", means, batch.means
        yield "the mean positive parts of a batch", parts, batch.parts
        yield "the scales of a batch", scales * 2.0**SCALE_BITS, batch.scales
        yield "normalised values", values, truth
        gradient = reference.to_bits(reference.Scaled(arrived, 0), 12)
        back = reference.normal_gradient(gradient, truth, relu, NORMAL_TARGET, dither)
        computed = normal.gradient(send(gradient.values), values, relu, NORMAL_TARGET, send(dither) / 256)
        yield "the gradient of a normalisation", computed, back.values


def _pattern(shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Mostly +-127 in runs, so that sums climb high before they cancel, with odd small values strewn in."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = np.where((index // 53 + salt) % 3 == 0, -127, 127)
    return np.where(index % 7 == salt, index % 251 - 125, values).reshape(shape)
