"""Each operation of the fast path against the definition: random and extreme values, odd shapes, both number types."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.exact import fast, normal, reference
from consensus.exact.engine import Engine
from consensus.exact.reference import Scaled
from consensus.spaces import InputShape
from consensus.spaces.graph import EXACT, Node
from tests.exact.helpers import random_graph

SEEDS = st.integers(0, 2**32)
DTYPES = st.sampled_from([torch.float32, torch.float64])
LAZY = st.booleans()


def tensor(values, dtype):
    return torch.from_numpy(np.array(values)).to(dtype)


def exponent(value, lazy):
    return torch.tensor(value, dtype=torch.int32) if lazy else value


def same(computed, expected):
    assert np.array_equal(computed.double().numpy(), np.asarray(expected, dtype=np.float64))


def int8(rng, *shape):
    noise = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.3:
        return noise.choice([-127, 127], shape)
    return noise.integers(-127, 128, shape) * (noise.random(shape) < rng.choice([0.1, 1.0]))


def random_window(rng) -> tuple[Node, int, int, int]:
    """A convolution or filter bank as the builder makes them, and the size of its input."""
    height, width, channels = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 9)
    size, stride = rng.choice([1, 3, 5]), rng.choice([1, 2])
    kind = rng.choice(["conv", "depthwise"])
    after = channels if kind == "depthwise" else rng.randint(1, 9)
    out = -(-height // stride), -(-width // stride)
    return Node(kind, (0,), *out, after, (size, size), (stride, stride), size // 2), height, width, channels


@settings(deadline=None, print_blob=True)
@given(SEEDS, DTYPES)
def test_windows(seed, dtype):
    rng = random.Random(seed)
    node, height, width, channels = random_window(rng)
    rows = node.kernel[0] ** 2 * (channels if node.kind == "conv" else 1)
    values, weights = int8(rng, 3, height, width, channels), int8(rng, rows, node.channels)
    gradient = int8(rng, 3, node.height, node.width, node.channels)
    x, w, g = (tensor(array, dtype) for array in (values, weights, gradient))
    if node.kind == "conv":
        columns = fast.gather(x, node)
        out, by_weights = fast.conv(columns, w, node), fast.conv_weight_gradient(columns, g)
        by_input = fast.conv_input_gradient(g, w, node, x.shape)
    else:
        out, by_weights = fast.depthwise(x, w, node), fast.depthwise_weight_gradient(x, g, node)
        by_input = fast.depthwise_input_gradient(g, w, node, x.shape)
    same(out, reference.linear(values, weights, node))
    same(by_weights, reference.linear_weight_gradient(values, gradient, node))
    same(by_input, reference.linear_input_gradient(gradient, weights, node, values))


@settings(deadline=None, print_blob=True)
@given(SEEDS, DTYPES)
def test_pools(seed, dtype):
    rng = random.Random(seed)
    kind, kernel = rng.choice(["sum_pool", "max_pool"]), (rng.randint(1, 4), rng.randint(1, 4))
    out = rng.randint(1, 4), rng.randint(1, 4)
    # The input may reach beyond the last window; under a sum it may also end within it.
    low = -(kernel[0] - 1) if kind == "sum_pool" else 0
    height = max(1, out[0] * kernel[0] + rng.randint(low, kernel[0] - 1))
    width = out[1] * kernel[1] + rng.randint(0, kernel[1] - 1)
    node = Node(kind, (0,), *out, 5, kernel, kernel)
    values, gradient = int8(rng, 2, height, width, 5), int8(rng, 2, *out, 5)
    truth = reference.pool(values, node)
    computed = fast.pool(tensor(values, dtype), node)
    same(computed, truth)
    back = fast.pool_gradient(tensor(gradient, dtype), tensor(values, dtype), computed, node)
    same(back, reference.pool_gradient(gradient, values, truth, node))


@settings(deadline=None, print_blob=True)
@given(SEEDS, DTYPES, LAZY, st.integers(0, EXACT - 1))
def test_rounding(seed, dtype, lazy, limit):
    noise = np.random.default_rng(seed)
    values = np.concatenate([noise.integers(-limit, limit + 1, 50), [limit, -limit, limit // 2, limit & ~0xFFFF]])
    dither = noise.integers(0, 256, len(values))
    near, power = fast.to_bits(tensor(values, dtype), exponent(-5, lazy), 12)
    truth = reference.to_bits(Scaled(values, -5), 12)
    same(near, truth.values)
    assert int(power) == truth.exponent
    rounded, power = fast.requantise_dithered(tensor(values, dtype), exponent(3, lazy), tensor(dither, dtype) / 256)
    truth = reference.requantise_dithered(Scaled(values, 3), dither)
    same(rounded, truth.values)
    assert int(power) == truth.exponent


def test_dithered_rounding_is_right_on_average():
    values = np.full(256, 1000)
    dither = np.arange(256)
    assert reference.requantise_dithered(Scaled(values, 0), dither).values.mean() == 1000 / 8


@settings(deadline=None, print_blob=True)
@given(SEEDS, DTYPES, LAZY, st.integers(-40, 40))
def test_gradients_that_meet(seed, dtype, lazy, distance):
    rng = random.Random(seed)
    one, two = int8(rng, 30) * rng.choice([1, 1000]), int8(rng, 30)
    out, power = fast.meet(tensor(one, dtype), exponent(distance, lazy), tensor(two, dtype), exponent(-2, lazy))
    truth = reference.meet(Scaled(one, distance), Scaled(two, -2))
    same(out, truth.values)
    assert int(power) == truth.exponent


@settings(deadline=None, print_blob=True)
@given(SEEDS, DTYPES, st.booleans(), st.sampled_from([1, 2, 4, 8]))
def test_normalisation_and_its_gradient(seed, dtype, relu, target):
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    shape = rng.randint(1, 40), rng.randint(1, 40), rng.randint(1, 40), rng.randint(1, 4)
    limit = rng.choice([1, 3, 300, 1 << 14])
    sums = noise.choice([-limit, limit], shape) if rng.random() < 0.5 else noise.integers(-limit, limit + 1, shape)
    batch = reference.batch_statistics(sums, target)
    truth = np.clip(reference.shift_nearest((sums - batch.means) * batch.scales, 24), 0 if relu else -127, 127)
    values, scales, means, parts = normal.normalise(tensor(sums, dtype), relu, target)
    for computed, expected in ((values, truth), (means, batch.means), (parts, batch.parts)):
        same(computed, expected)
    same(scales * 2.0**24, batch.scales)
    arrived, dither = noise.integers(-4096, 4097, shape), noise.integers(0, 256, sums.size)
    arrived.flat[0] = 4095  # 12 bits
    arrived = np.clip(arrived, -4095, 4095)
    back = reference.normal_gradient(Scaled(arrived, 3), truth, relu, target, dither)
    same(normal.gradient(tensor(arrived, dtype), values, relu, target, tensor(dither, dtype) / 256), back.values)


def test_normalised_channels_are_centred_and_of_one_scale():
    noise = np.random.default_rng(1)
    sums = (noise.normal(size=(64, 8, 8, 5)) * [20, 90, 300, 900, 2000] + [0, 500, -900, 3000, 7]).astype(np.int64)
    values, *_ = normal.normalise(tensor(sums, torch.float32), False, 8)
    assert np.abs(values.mean(dim=(0, 1, 2)).numpy()).max() < 0.5
    assert np.abs(values.clamp_min(0).mean(dim=(0, 1, 2)).numpy() - 8).max() < 0.3


@settings(deadline=None, print_blob=True)
@given(SEEDS, LAZY, st.integers(0, 2**40))
def test_weight_gradients_get_12_bits(seed, lazy, limit):
    values = np.random.default_rng(seed).integers(-limit, limit + 1, (4, 5))
    out = fast.scale_gradient(tensor(values, torch.float64), torch.float32, exponent(0, lazy))
    same(out, reference.shift_nearest(values, reference.bits(values) - 12))
    assert not values.any() or 2048 <= int(out.abs().max()) <= 4096


@settings(deadline=None, print_blob=True)
@given(SEEDS, LAZY, st.integers(-60, 40), st.integers(2, 12))
def test_loss_gradient(seed, lazy, power, classes):
    rng = random.Random(seed)
    engine = Engine(random_graph(rng, InputShape(4, 4, 1, classes)), "cpu", lazy)
    noise = np.random.default_rng(seed)
    logits = noise.integers(1 - EXACT, EXACT, (6, 1, 1, classes)) >> rng.choice([0, 10, 20])
    labels = noise.integers(0, classes, 6)
    share = engine.loss_gradient(
        tensor(logits, torch.float32), exponent(power, lazy), torch.from_numpy(labels)[:, None]
    )
    same(share, reference.loss_gradient(Scaled(logits, power), labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bit_lengths_and_powers(dtype):
    numbers = [0, 1, 2, 3, 4, 127, 128, 255, 256, EXACT // 2, EXACT - 1]
    found = fast.bit_length(torch.tensor(numbers, dtype=dtype)).tolist()
    assert found == [number.bit_length() for number in numbers]
    for value in range(-100, 101):
        assert (
            float(fast.power(torch.tensor(value, dtype=torch.int32), dtype)) == 2.0**value == fast.power(value, dtype)
        )
