"""Processors differ in their instructions: golden trainings in processes that may use only some of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.exact.convolution import is_exact

PROGRAM = """
import torch
torch.set_num_threads(int({threads}))
torch.backends.mkldnn.enabled = {onednn}
from consensus.exact import device, pick_device
from tests.exact.make_vectors import TRAININGS, training
from consensus.datasets import digits
from consensus.exact import Recipe
import json
from tests.exact.make_vectors import FOLDER
pick_device("cpu")
for name, genotype in TRAININGS.items():
    found = training(bytes.fromhex(genotype), digits(), Recipe(16, 32, 2, 640), b"golden", inline=False)
    assert found == json.loads((FOLDER / f"training-{{name}}.json").read_text()), name
"""
SETTINGS = [
    ("DEFAULT", 1, True),
    ("AVX512_CORE", 2, True),
    ("AVX2", 1, True),
    ("SSE41", 1, True),
    ("DEFAULT", 2, False),
    ("AVX2", 2, False),
]


def run(program, environment):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("instructions", "threads", "onednn"), SETTINGS)
def test_instructions_do_not_matter(instructions, threads, onednn):
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_WAIT_POLICY": "PASSIVE"}
    if instructions in ("AVX2", "SSE41"):  # what torch's own loops and its BLAS may use
        environment |= {"ATEN_CPU_CAPABILITY": "avx2" if instructions == "AVX2" else "default"}
        environment |= {"MKL_ENABLE_INSTRUCTIONS": "AVX2" if instructions == "AVX2" else "SSE4_2"}
    run(PROGRAM.format(threads=threads, onednn=onednn), environment)


RACES = """
import torch
torch.set_num_threads(2)
import numpy as np
from consensus.exact import reference
from consensus.exact.convolution import ByteConvolution
from consensus.exact.model import Layer
from consensus.spaces import Node
noise = np.random.default_rng(1)
for kernel in (1, 3):
    for stride in (1, 2):
        node = Node("conv", (0,), 8 // stride, 8 // stride, 16, (kernel, kernel), (stride, stride), kernel // 2, True)
        weights = noise.integers(-127, 128, (kernel * kernel * 24, 16)).astype(np.int8)
        layer = Layer(weights, noise.integers(-999, 999, 16).astype(np.int32), np.full(16, 11, np.uint8))
        values = noise.integers(0, 128, (256, 8, 8, 24))
        truth = torch.tensor(np.maximum(reference.affine(reference.linear(values, weights, node), layer), 0))
        given = torch.tensor(values, dtype=torch.uint8)
        compute = ByteConvolution(node, layer, "small", False, given.shape)
        wrong = sum(not torch.equal(compute(given), truth) for _ in range(800))
        assert not wrong, (kernel, stride, wrong)
"""


@pytest.mark.parametrize("instructions", ["AVX2", "DEFAULT"])
def test_threads_do_not_disturb_one_another(instructions):
    """The library's own way to strided kernels of one place does, with AVX2, in about one call of forty."""
    if not is_exact("small", split=False):
        pytest.skip("no exact convolutions of bytes here")
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_WAIT_POLICY": "PASSIVE"}
    run(RACES, environment)
