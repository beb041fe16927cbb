"""The self-test must pass where arithmetic is exact, and must notice each way in which it is not."""

import logging

import numpy as np
import pytest
import torch

from consensus.exact import InexactDevice, device, fast, initial_state, pick_device, products, reference, self_test
from consensus.exact.engine import Engine
from consensus.exact.recipe import Recipe


@pytest.fixture(autouse=True)
def forget_tests():
    pick_device.cache_clear()
    yield
    pick_device.cache_clear()


@pytest.mark.parametrize("name", ["cpu", "cpu64"])
def test_this_machine_is_exact(name):
    self_test(name)
    assert pick_device(name) == name


def test_the_definition_gives_the_golden_digest():
    graph, seed = device.golden_graph(), device.GOLDEN_SEED
    end = reference.run_segment(graph, device.golden_data(), device.GOLDEN_RECIPE, seed, initial_state(graph, seed))
    assert end.digest().hex() == device.GOLDEN
    kinds = {node.kind for node in graph.nodes}
    assert kinds == {"input", "conv", "depthwise", "add", "sum_pool", "max_pool"}


def test_the_test_runs_once(monkeypatch):
    runs = []
    monkeypatch.setattr(device, "self_test", runs.append)
    assert [pick_device("cpu"), pick_device("cpu")] == ["cpu", "cpu"] and runs == ["cpu"]


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InexactDevice, match="refused"):
        pick_device(name)


def half_precision(left, right):
    return (left.to(torch.bfloat16) @ right.to(torch.bfloat16)).to(left.dtype)


def saturating(left, right):
    """Pairs of unsigned times signed products saturate at 16 bits, as in int8 routines of processors without VNNI."""
    pairs = ((left[:, :, None] + 128) * right[None]).double()
    if pairs.shape[1] % 2:
        pairs = torch.cat([pairs, torch.zeros_like(pairs[:, :1])], dim=1)
    total = (pairs[:, ::2] + pairs[:, 1::2]).clamp(-32768, 32767).sum(dim=1)
    return (total - 128 * right.double().sum(dim=0)).to(left.dtype)


def rounding_late(left, right):
    """Wrong by one in the last bit of sums of 24 bits only."""
    out = (left.double() @ right.double()).to(torch.float32)
    return torch.where(out.abs() >= 2**23, out - out % 2, out).to(left.dtype)


def losing_small_parts(left, right):
    """A partial sum of the second half that starts from a rounded first half."""
    cut = left.shape[1] // 2
    first = (left[:, :cut].double() @ right[:cut].double()).to(torch.bfloat16).double()
    return (first + left[:, cut:].double() @ right[cut:].double()).to(left.dtype)


@pytest.mark.parametrize("wrong", [half_precision, saturating, rounding_late, losing_small_parts])
def test_inexact_products_are_noticed(monkeypatch, wrong):
    monkeypatch.setattr(torch, "mm", wrong)
    with pytest.raises(InexactDevice, match="inexactly"):
        self_test("cpu")


def test_an_inexact_batched_product_is_noticed(monkeypatch):
    right = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: right(a, b).to(torch.bfloat16).to(a.dtype))
    with pytest.raises(InexactDevice, match="weight gradient"):
        self_test("cpu")


def test_wrong_rounding_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "round_", lambda values: values.add_(0.5).floor_())
    with pytest.raises(InexactDevice, match="rounding"):
        self_test("cpu")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("depthwise", "filter by channel"),
        ("depthwise_weight_gradient", "weight gradient of a 3x3 filter"),
        ("depthwise_input_gradient", "input gradient of a 3x3 filter"),
        ("pool", "computed a sum_pool"),
        ("pool_gradient", "gradient of a sum_pool"),
    ],
)
def test_a_last_bit_lost_by_filters_and_pools_is_noticed(monkeypatch, name, says):
    right = getattr(fast, name)
    monkeypatch.setattr(fast, name, lambda *args: right(*args) // 2 * 2)
    with pytest.raises(InexactDevice, match=says):
        self_test("cpu")


def test_a_maximum_that_gives_its_gradient_to_one_pixel_of_several_is_noticed(monkeypatch):
    right = fast.pool_gradient

    def first_only(gradient, values, out, node):
        back = right(gradient, values, out, node)
        if node.kind == "max_pool":
            back[:, 1::2] *= values[:, 1::2] != values[:, : back.shape[1] // 2 * 2 : 2]
        return back

    monkeypatch.setattr(fast, "pool_gradient", first_only)
    with pytest.raises(InexactDevice, match="gradient of a max_pool"):
        self_test("cpu")


def test_sums_of_many_rows_in_float32_are_noticed(monkeypatch):
    right = fast.depthwise_weight_gradient
    monkeypatch.setattr(fast, "depthwise_weight_gradient", lambda *args: right(*args).to(torch.float32))
    with pytest.raises(InexactDevice, match="2304 products"):
        self_test("cpu")


def test_wrong_logits_are_noticed(monkeypatch):
    right = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args: right(*args) + 2.0**-9)
    with pytest.raises(InexactDevice, match="logits"):
        self_test("cpu64")


def test_a_wrong_training_is_noticed(monkeypatch):
    right = Recipe.rate
    monkeypatch.setattr(Recipe, "rate", lambda recipe, step: right(recipe, step) + 1)
    with pytest.raises(InexactDevice, match="golden"):
        self_test("cpu")


def test_auto_falls_back_to_float64_and_says_why(monkeypatch, caplog):
    right = torch.mm
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "mm", lambda a, b: right(a, b) if a.dtype == torch.float64 else half_precision(a, b))
    with caplog.at_level(logging.WARNING):
        assert pick_device("auto") == "cpu64"
    assert "'cpu' is refused" in caplog.text
    monkeypatch.setattr(torch, "mm", half_precision)
    pick_device.cache_clear()
    with pytest.raises(InexactDevice, match="cpu64"):
        pick_device("auto")


def test_library_convolutions_would_be_caught():
    """Why products: this is the vector on which a library's Winograd convolution fails; ours agrees with the truth."""
    values = np.full((1, 9, 9, 40), 127, dtype=np.int64)
    weights = np.full((360, 8), 127, dtype=np.int64)
    node = reference.Node("conv", (0,), 9, 9, 8, (3, 3), (1, 1), 1)
    sent = torch.from_numpy(values).float(), torch.from_numpy(weights).float()
    out = fast.conv(fast.gather(sent[0], node), sent[1], node)
    assert np.array_equal(out.numpy(), reference.linear(values, weights, node))


def test_int8_products_of_awkward_layouts():
    """Views whose rows overlap, single rows and columns, transposed ones: the library got the first two wrong."""
    noise = np.random.default_rng(1)
    run = torch.from_numpy(noise.integers(-127, 128, 4000).astype(np.int8))
    for rows, inner, columns in ((2, 400, 12), (1, 40, 5), (5, 1, 3), (7, 30, 1), (33, 75, 10)):
        right = torch.from_numpy(noise.integers(-127, 128, (inner, columns)).astype(np.int8))
        turned = right.t().contiguous().t()
        for left in (
            run.as_strided((rows, inner), (80, 1)),
            run[: rows * inner].view(rows, inner),
            run[: rows * inner].view(inner, rows).t(),
        ):
            truth = left.double() @ right.double()
            assert torch.equal(products.product(left, right).double(), truth)
            assert torch.equal(products.product(left, turned).double(), truth)


def test_inexact_int8_products_are_noticed_and_left_alone(monkeypatch):
    """Float32 serves then, and the device passes."""
    products.int8_is_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: saturating(a.int(), b.int()).to(torch.int32))
    try:
        assert not products.int8_is_exact()
        assert not Engine(device.golden_graph(), "cpu").int8
        self_test("cpu")
    finally:
        products.int8_is_exact.cache_clear()


def test_without_int8_products_float32_serves(monkeypatch):
    def missing(*_):
        raise RuntimeError("not implemented")

    products.int8_is_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", missing)
    try:
        assert not products.int8_is_exact()
    finally:
        products.int8_is_exact.cache_clear()
